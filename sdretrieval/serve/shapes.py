"""What requests hold and what answers look like, with the limits of each field."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sdretrieval.export.text_search import Mode

MOST_TEXTS, MOST_CHARACTERS, MOST_HITS, MOST_IDS = 512, 100_000, 1000, 10_000
Text = Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]
SideName = Literal["query", "document"]


class Request(BaseModel):
    """A field that is not known is an error: it would do nothing."""

    model_config = ConfigDict(extra="forbid")


class Embeddings(Request):
    """`POST /v1/embeddings`, OpenAI's shape. `input_type`: which side the texts are of."""

    input: Text | Texts
    model: str = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)
    input_type: SideName | None = None
    user: str | None = None


class Embed(Request):
    """`POST /embed`, text-embeddings-inference's shape. Texts are always cut at the student's length."""

    inputs: Text | Texts
    prompt_name: SideName | None = None
    truncate: bool = True
    truncation_direction: Literal["Right", "right"] = "Right"
    normalize: bool = True
    dimensions: int | None = Field(None, ge=1)


class Ids(Request):
    """Documents that alone may be found, and that may not."""

    include: Annotated[list[str], Field(max_length=MOST_IDS)] | None = None
    exclude: Annotated[list[str], Field(max_length=MOST_IDS)] = []


class Search(Request):
    """`POST /search`."""

    query: Text
    k: int = Field(10, ge=1, le=MOST_HITS)
    mode: Mode = "dense"
    min_probability: float | None = Field(None, ge=0, le=1)
    ids: Ids = Ids()
    system: Literal["student", "base"] = "student"


class Verdict(Request):
    """`POST /verdicts`: what a person thinks of a document for a query."""

    query: Text
    document_id: Annotated[str, Field(min_length=1, max_length=1000)]
    verdict: Literal["relevant", "not"]


class Hit(BaseModel):
    """`passage`: the part of `text` to show, `words`: what to mark in it, as half-open character ranges of `text`."""

    rank: int
    id: str
    score: float
    probability: float | None
    title: str
    text: str
    passage: tuple[int, int]
    words: list[tuple[int, int]]


class Found(BaseModel):
    """What `/search` answers. `version`: of the bundle that answered; `milliseconds`: spent on it."""

    query: str
    mode: Mode
    system: str
    version: str
    milliseconds: float
    best_probability: float | None
    hits: list[Hit]


class Vector(BaseModel):
    """One of OpenAI's list."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: Any


class Vectors(BaseModel):
    """What `/v1/embeddings` answers."""

    object: Literal["list"] = "list"
    data: list[Vector]
    model: str
    usage: dict[str, int]
