"""Stage N/merge: the weights between two students."""

from __future__ import annotations

from sdretrieval.encode.adapter import with_adapter
from sdretrieval.encode.student import save_student
from sdretrieval.stages.run import Run, Weights, student_from
from sdretrieval.store import Work


def merge(run: Run, address: str, old: Weights, new: Weights, share: float) -> Weights:
    """(1 - share) x old + share x new weights (Wortsman et al. 2022); its average is the same model."""

    def build(work: Work) -> None:
        base, other = student_from(old.student, run.config), student_from(new.student, run.config)
        if len(other.model) > len(base.model):  # no adapter is the same as one that changes nothing
            with_adapter(base.model)
        theirs = other.model.state_dict()
        merged = {
            name: tensor.lerp(theirs[name].to(tensor.dtype), share) if tensor.dtype.is_floating_point else tensor
            for name, tensor in base.model.state_dict().items()
        }
        base.model.load_state_dict(merged)
        save_student(base.model, work.folder / "student")
        save_student(base.model, work.folder / "average")
        work.counts["share"] = share

    made = run.runner.stage(address, 2, {"share": share}, [old.key, new.key], build)
    return Weights(made.key, made.path / "student", made.path / "average")
