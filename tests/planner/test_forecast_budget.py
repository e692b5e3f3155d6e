"""Settings that fit a budget: what is given up, in which order, and what is said if nothing helps."""

from __future__ import annotations

import pytest

from sdretrieval.config import Config
from sdretrieval.errors import RequestError
from sdretrieval.planner import Amount, Budget, Forecast, Prediction, fit
from tests.helpers.runs.tiny_runs import MakeConfig


def forecast_of(config: Config) -> Forecast:
    """Encoding takes 100 s whatever happens, training 10 s an epoch, scoring 5 s a kept document; mining took none."""
    train = config.train
    held = 10**9 + 10**7 * train.queries_per_batch * train.candidates_per_query
    stages = {
        "1/encode": Prediction(Amount("tokens", 1000), 100.0, 10**9),
        "1/score": Prediction(Amount("pairs", 100), 5.0 * config.mine.keep, 10**9),
        "1/train": Prediction(Amount("updates", 10), 10.0 * train.epochs, held),
    }
    return Forecast(stages, dict.fromkeys(stages, "key"))


@pytest.fixture
def config(make_config: MakeConfig) -> Config:
    return make_config("mine.keep=20", "mine.depth=100", "train.epochs=4")  # 100 + 100 + 40 s


def test_what_fits_is_left_alone(config: Config) -> None:
    fitted = fit(config, forecast_of, Budget(seconds=240))
    assert fitted.config == config
    assert fitted.given_up == []


def test_what_saves_most_goes_first(config: Config) -> None:
    fitted = fit(config, forecast_of, Budget(seconds=220))
    assert [(one.setting, one.before, one.now) for one in fitted.given_up] == [("mine.keep", 20, 15)]
    assert fitted.forecast.seconds <= 220
    assert fitted.overrides == ["mine.keep=15"]


@pytest.mark.parametrize("seconds", [230, 200, 180, 160, 150])
def test_the_config_fits_and_is_what_the_overrides_say(config: Config, make_config: MakeConfig, seconds: float) -> None:
    fitted = fit(config, forecast_of, Budget(seconds=seconds))
    assert fitted.forecast.seconds <= seconds
    assert forecast_of(fitted.config).seconds == fitted.forecast.seconds
    again = make_config("mine.keep=20", "mine.depth=100", "train.epochs=4", *fitted.overrides)
    assert again == fitted.config


def test_memory_is_saved_by_smaller_batches_and_as_many_queries_an_update(config: Config) -> None:
    before = config.train.queries_per_batch * config.train.gradient_accumulation
    fitted = fit(config, forecast_of, Budget(peak_bytes=10**9 + 3 * 10**8))
    train = fitted.config.train
    assert fitted.forecast.peak_bytes <= 10**9 + 3 * 10**8
    assert train.queries_per_batch * train.gradient_accumulation == before
    assert fitted.config.train.epochs == 4  # time was not short


def test_pieces_of_a_batch_come_before_smaller_batches(config: Config) -> None:
    def in_pieces(config: Config) -> Forecast:
        whole = forecast_of(config)
        if config.train.batch_tokens is None:
            return whole
        train = whole.stages["1/train"]._replace(peak_bytes=10**9 + 10**5 * config.train.batch_tokens)
        return Forecast({**whole.stages, "1/train": train}, whole.keys)

    fitted = fit(config, in_pieces, Budget(peak_bytes=10**9 + 3 * 10**8))
    assert [(one.setting, one.before, one.now) for one in fitted.given_up] == [("train.batch_tokens", None, 2048)]


def test_what_contradicts_another_setting_is_not_tried(make_config: MakeConfig) -> None:
    config = make_config("mine.keep=12", "train.epochs=4", "targets.target_perplexity=10")  # a list must be longer
    fitted = fit(config, forecast_of, Budget(seconds=180))
    assert [one.setting for one in fitted.given_up] == ["train.epochs"]


def test_if_nothing_helps_it_says_what_takes_the_most(config: Config) -> None:
    with pytest.raises(RequestError, match=r"^a budget of 1 min: this config takes 2 min .* here even with .*epochs"):
        fit(config, forecast_of, Budget(seconds=60))
    with pytest.raises(RequestError, match=r"most: 1/encode 1 min 40 s.*fewer documents \(--set corpus\.max_doc"):
        fit(config, forecast_of, Budget(seconds=60))
    with pytest.raises(RequestError, match=r"^--max-memory .*MB: this config holds .*index\.kind: PQ32"):
        fit(config, forecast_of, Budget(peak_bytes=5 * 10**8))


def test_a_limit_of_memory_holds_for_the_gpu_too(config: Config) -> None:
    def on_gpu(config: Config) -> Forecast:
        whole = forecast_of(config)
        train = whole.stages["1/train"]
        assert train.peak_bytes is not None
        return Forecast(
            {**whole.stages, "1/train": train._replace(peak_bytes=10**8, device_bytes=train.peak_bytes)}, whole.keys
        )

    assert "1.5 GB on the GPU" in on_gpu(config).summary()
    fitted = fit(config, on_gpu, Budget(peak_bytes=10**9 + 3 * 10**8))
    assert fitted.forecast.device_bytes <= 10**9 + 3 * 10**8
    with pytest.raises(RequestError, match=r"^--max-memory 900.0 MB: this config holds 1\.\d GB here.*most: .*1/train"):
        fit(config, on_gpu, Budget(peak_bytes=9 * 10**8))
