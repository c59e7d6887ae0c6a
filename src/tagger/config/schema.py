"""The typed schema of `configs/`: every key, its type, its range, and what it does.

Hydra composes the yaml files (`tagger.config.composition`); the models below decide what is valid.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

OPEN_MAPPINGS = ("data.columns.", "search.space.")
"""Keys below these are values of the user's own."""

Fraction = Annotated[float, Field(ge=0, lt=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Grouping = Literal["near-duplicates", "off"]
FOLDER_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
FolderName = Annotated[str, Field(pattern=FOLDER_NAME)]


class Section(BaseModel):
    """A part of the config: strictly typed, closed to unknown keys, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SplitConfig(Section):
    """How labelled items are divided; see `tagger.data.splits`."""

    validation: Fraction = Field(description="share kept for early stopping; 0 trains on all")
    test: Fraction = Field(description="share never trained on; ignored when `fold` is given")
    seed: Seed = Field(
        description="not the run's own: runs of several seeds then share their test rows"
    )
    column: str | None = Field(
        min_length=1, description="of the table: says which part a row is in; null: they are dealt"
    )
    folds: int | None = Field(ge=2, le=100, description="number of folds of a cross-validation")
    fold: int | None = Field(ge=0, description="which fold is the test set, from 0")
    per_tag: int | None = Field(
        ge=1, description="train on at most so many rows of each tag; null: on all"
    )
    # Runs that were made before there was this key kept near-duplicates together.
    group: Grouping = Field(
        default="near-duplicates",
        description="what stays together; off: rows are dealt one by one, and reports warn of it",
    )

    @field_validator("group", mode="before")
    @classmethod
    def _unquoted(cls, value: Any) -> Any:
        """Take YAML's unquoted `off`, which is a boolean there, for what it says."""
        return "off" if value is False else value

    @model_validator(mode="after")
    def _check(self) -> "SplitConfig":
        if (self.folds is None) != (self.fold is None):
            raise ValueError("`folds` and `fold` go together: give both or neither")
        if self.folds is not None and self.fold is not None and self.fold >= self.folds:
            raise ValueError(f"`fold` counts from 0: {self.fold} is not below folds={self.folds}")
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation={self.validation} and test={self.test} leave nothing to train on"
            )
        return self


class DataConfig(Section):
    """Where items come from; see `tagger.data.sources`."""

    name: FolderName = Field(description="what reports call this source")
    source: Literal["file", "hub", "download"]
    path: str | None = Field(
        description="source=file: CSV, JSON, Parquet, Arrow, or a folder that `datasets` saved"
    )
    test_path: str | None = Field(description="source=file: another one, whose rows are the test")
    hub_id: str | None = Field(description="source=hub: a dataset's id on the Hugging Face hub")
    hub_subset: str | None = Field(description="source=hub: which of its subsets (configs)")
    hub_split: str = Field(description="source=hub: which split of it")
    hub_test_split: str | None = Field(description="source=hub: the split whose rows are the test")
    hub_revision: str | None = Field(description="source=hub: a commit, for a result that lasts")
    url: str | None = Field(description="source=download: address of a file, pinned to a commit")
    sha256: Sha256 | None = Field(description="source=download: what the file must hash to")
    extra: list[str] = Field(
        description="further labelled files, for training alone: no row of them is held out"
    )
    extra_weight: float = Field(gt=0, le=100, description="what each of their rows counts")
    columns: dict[str, str] = Field(
        description="our field name (or text): the source's column name; '': not to be read"
    )
    delimiter: str | None = Field(
        min_length=1, max_length=1, description="of a CSV file's columns; null: found"
    )
    dates: Literal["iso", "day-first", "month-first"] = Field(
        description="what comes first in dates like 03/02/2020; iso: such dates are refused"
    )
    tags: str = Field(min_length=1, description="the file that lists the tags; auto: the data's")
    split: SplitConfig

    @property
    def gives_test(self) -> bool:
        """Whether the source says which rows are for testing."""
        return any((self.test_path, self.hub_test_split, self.split.column))

    @model_validator(mode="after")
    def _check(self) -> "DataConfig":
        needed = {"file": ("path",), "hub": ("hub_id",), "download": ("url", "sha256")}[self.source]
        missing = [key for key in needed if getattr(self, key) is None]
        if missing:
            given = " and ".join(f"data.{key}=..." for key in missing)
            raise ValueError(f"source={self.source} needs {given}")
        for key, source in {"test_path": "file", "hub_test_split": "hub"}.items():
            if getattr(self, key) is not None and self.source != source:
                raise ValueError(f"`{key}` goes with source={source}, found {self.source}")
        ways = [key for key in ("test_path", "hub_test_split") if getattr(self, key)]
        ways += ["split.column"] if self.split.column else []
        if len(ways) > 1:
            raise ValueError(f"{' and '.join(ways)} both say which rows are the test: give one")
        if ways and self.split.folds is not None:
            raise ValueError(f"split.folds makes test parts of its own: leave out {ways[0]}")
        if problem := wrong_columns(self.columns):
            raise ValueError(problem)
        return self


def wrong_columns(columns: Mapping[str, str]) -> str | None:
    """Say what is wrong with the names of the fields that columns are given for, if anything."""
    known = ("id", "created_on", "title", "description", "text", "tag")
    if unknown := [name for name in columns if name not in known]:
        return (
            f"`columns` gives a column for {', '.join(unknown)}, but the fields are "
            f"{', '.join(known)}; it is written {{FIELD: COLUMN}}, such as {{tag: label}}"
        )
    if "text" in columns and "description" in columns:
        return "`columns` gives both text and description, which are the same: give one"
    return None


class RandomEncoderConfig(Section):
    """The shape of an encoder without pretraining (`model.encoder=random`), for tests."""

    layers: int = Field(ge=1, le=48)
    hidden: int = Field(ge=8, le=4096)
    heads: int = Field(ge=1, le=64)
    intermediate: int = Field(ge=8, le=16384)

    @model_validator(mode="after")
    def _check(self) -> "RandomEncoderConfig":
        if self.hidden % self.heads:
            raise ValueError(f"hidden={self.hidden} is not a multiple of heads={self.heads}")
        return self


class EncoderConfig(Section):
    """A pretrained encoder, and how it makes one vector of a text; see `tagger.models.encoders`."""

    name: FolderName
    encoder: str = Field(
        min_length=1, description="package:NAME, pieces:NAME, random, a folder, or a hub id"
    )
    revision: str | None = Field(description="hub id: a commit, for a result that lasts")
    sha256: Sha256 | None = Field(description="what the encoder's weights must hash to")
    random: RandomEncoderConfig | None = Field(description="encoder=random: its shape")
    pooling: Literal["mean", "cls", "max"]
    max_length: int = Field(ge=4, le=8192, description="tokens; longer text is cut")

    @model_validator(mode="after")
    def _check(self) -> "EncoderConfig":
        if (self.encoder == "random") != (self.random is not None):
            raise ValueError("`random` (a shape) is given exactly when encoder=random")
        return self


class TransformerConfig(EncoderConfig):
    """An encoder that is fine-tuned under a head; see `tagger.models.transformer`."""

    approach: Literal["transformer"]
    head: Literal["linear", "mlp"]
    dropout: Fraction = Field(description="between pooling and head")
    encoder_dropout: Fraction | None = Field(description="null: what it was pretrained with")
    keep_layers: list[Annotated[int, Field(ge=0, le=47)]] | None = Field(
        min_length=1, description="layers of the encoder that stay, 0 the lowest; null: all"
    )
    keep_width: int | None = Field(
        ge=8, le=4096, description="numbers that a token's state keeps; null: all"
    )
    keep_neurons: int | None = Field(
        ge=1, le=16384, description="neurons that each feed-forward part keeps; null: all"
    )
    vocabulary_from: list[str] | None = Field(
        min_length=1, description="files of items whose tokens stay in the vocabulary; null: all"
    )
    vocabulary_size: int | None = Field(
        ge=1, le=1_000_000, description="of these tokens the most frequent; null: all of them"
    )
    static: int | None = Field(
        ge=8, le=4096, description="numbers of one fixed vector a token, in place of the encoder"
    )
    freeze_embeddings: bool = Field(description="do not train the token embeddings")
    freeze_layers: int = Field(ge=0, le=48, description="do not train this many lowest layers")

    @field_validator("keep_layers")
    @classmethod
    def _in_order(cls, layers: list[int] | None) -> list[int] | None:
        if layers is not None and layers != sorted(set(layers)):
            raise ValueError(f"layers are named once each, the lowest first: {layers}")
        return layers

    @model_validator(mode="after")
    def _check_student(self) -> "TransformerConfig":
        if self.vocabulary_size is not None and self.vocabulary_from is None:
            raise ValueError("`vocabulary_size` is counted in `vocabulary_from`: give files there")
        if self.static is not None:
            needed = {"pooling": "mean", "freeze_embeddings": False, "freeze_layers": 0}
            wrong = [key for key, value in needed.items() if getattr(self, key) != value]
            if wrong:
                told = ", ".join(f"{key}={str(needed[key]).lower()}" for key in wrong)
                raise ValueError(f"`static` has token vectors alone, all to be trained: {told}")
        return self


class FrozenConfig(EncoderConfig):
    """A logistic regression on the vectors of an encoder; see `tagger.training.fitting`."""

    approach: Literal["frozen"]
    C: float = Field(gt=0, le=1e6, description="C of the regression; larger fits closer")
    balanced: bool = Field(description="let each tag weigh alike")


class LinearConfig(Section):
    """A linear model on words and characters; see `tagger.models.linear`."""

    approach: Literal["linear"]
    name: FolderName
    word_ngrams: int = Field(ge=1, le=5, description="longest sequence of words")
    char_ngrams: int = Field(ge=2, le=8, description="longest sequence of characters in a word")
    C: float = Field(gt=0, le=1e6, description="C of the machine; larger fits closer")
    balanced: bool = Field(description="let each tag weigh alike")


class RulesConfig(Section):
    """Words and patterns that speak for a tag; see `tagger.models.rules`."""

    approach: Literal["rules"]
    name: FolderName
    rules: str = Field(min_length=1, description="the file that lists them")


class EnsembleConfig(Section):
    """Finished runs that answer together; see `tagger.models.ensemble`."""

    approach: Literal["ensemble"]
    name: FolderName
    runs: list[str] = Field(min_length=2, max_length=100, description="run folders, or names")
    combine: Literal["probabilities", "weights"] = Field(
        description="mean of the answers, or one model with the mean of the weights"
    )


ModelConfig = Annotated[
    TransformerConfig | FrozenConfig | LinearConfig | RulesConfig | EnsembleConfig,
    Field(discriminator="approach"),
]
APPROACHES = ("transformer", "frozen", "linear", "rules", "ensemble")


class TrainingConfig(Section):
    """The recipe; see `tagger.training`."""

    epochs: int = Field(ge=1, le=1000)
    batch_size: int = Field(ge=1, le=4096, description="items a step, over all processes")
    accumulation_steps: int = Field(ge=1, le=256, description="parts a batch is computed in")
    lr: float = Field(gt=0, le=1, description="peak learning rate of the encoder's top layer")
    head_lr: float = Field(gt=0, le=1, description="peak learning rate of the head")
    layer_decay: float = Field(gt=0, le=1, description="factor on lr a layer further down")
    weight_decay: float = Field(ge=0, le=1)
    warmup: Fraction = Field(description="share of all steps in which the rate rises")
    schedule: Literal["linear", "cosine", "constant"]
    head_init: Literal["random", "probe"] = Field(
        description="probe: a logistic regression on the frozen encoder's vectors"
    )
    probe_C: float = Field(gt=0, le=1e6, description="head_init=probe: its C")
    ema_decay: Fraction = Field(
        description="a step's decay of the moving average of weights that is kept; 0: no average"
    )
    average_from: Fraction | None = Field(
        description="keep the plain mean of the weights from this share of the steps on instead"
    )
    token_dropout: Fraction = Field(description="share of tokens left out of a text at each step")
    field_dropout: Fraction = Field(
        description="share of texts without their title, or without their description, at a step"
    )
    typos: Fraction = Field(description="share of words that are misspelt at each step")
    max_grad_norm: float = Field(gt=0, le=1e6)
    loss: Literal["cross_entropy", "focal"]
    focal_gamma: float = Field(ge=0, le=10)
    label_smoothing: Fraction
    class_loss_weight: float = Field(ge=0, le=100)
    contrast_loss_weight: float = Field(ge=0, le=100)
    contrast_temperature: float = Field(gt=0, le=10)
    r_drop: float = Field(ge=0, le=100, description="weight of agreement under dropout")
    mixup: float = Field(ge=0, le=10, description="alpha of mixing vectors; 0: none")
    adversarial: float = Field(ge=0, le=1, description="relative size of embedding noise; 0: none")
    refit_head: bool = Field(
        description="fit the head anew at the end, as head_init=probe does at the start"
    )
    class_weights: Literal["none", "balanced"]
    doubtful_labels: Literal["keep", "down_weight", "relabel", "drop"] = Field(
        description="training rows whose tag looks wrong to models that did not see it"
    )
    mixed_precision: Literal["auto", "fp32", "bf16"] = Field(
        description="auto: bf16 where it is fast"
    )
    metric: Literal["macro_f1", "weighted_f1", "accuracy", "loss"] = Field(
        description="validation metric that picks the best epoch"
    )
    patience: int | None = Field(ge=1, description="epochs without a better one before stopping")
    checkpoint_seconds: float = Field(ge=0, description="a kill loses at most this; 0: each step")
    threads: int | None = Field(ge=1, le=1024, description="a process; null: all cores, shared out")

    @model_validator(mode="after")
    def _check(self) -> "TrainingConfig":
        if self.adversarial and (self.mixup or self.r_drop or self.contrast_loss_weight):
            raise ValueError("adversarial goes with none of mixup, r_drop, contrast_loss_weight")
        if not (self.class_loss_weight or self.contrast_loss_weight):
            raise ValueError(
                "class_loss_weight and contrast_loss_weight are both 0: nothing is minimised"
            )
        return self


class DistillConfig(Section):
    """What a student learns from a teacher; see `tagger.training.distillation`.

    The source of a student is the encoder that its layers were taken from, whole and as it was.
    """

    teachers: list[str] = Field(
        description="runs whose probabilities, on average, are learnt from; []: the source alone"
    )
    soft_loss_weight: float = Field(
        ge=0, le=100, description="of the loss against the teachers' probabilities"
    )
    temperature: float = Field(gt=0, le=100, description="softens both sides of the soft loss")
    class_loss_weight: float = Field(ge=0, le=100, description="of the loss against the labels")
    vector_loss_weight: float = Field(
        ge=0, le=100, description="of the loss against the source encoder's text vectors"
    )
    states: float = Field(ge=0, le=100, description="weight of the source's token states")
    attention: float = Field(ge=0, le=100, description="weight of the source's attention relations")
    layers: list[Annotated[int, Field(ge=0, le=47)]] | None = Field(
        min_length=1, description="source layer that each layer learns from; null: evenly spaced"
    )
    transfer: list[str] = Field(description="files of items to learn from; their tags are not read")
    transfer_most: int | None = Field(
        ge=1, description="of all of them so many, drawn by the seed; null: all"
    )
    transfer_weight: float = Field(gt=0, le=100, description="what each of their rows counts")
    copies: int = Field(ge=0, le=100, description="changed copies of each text to learn from too")
    changes: list[Literal["drop", "swap", "cross"]] = Field(
        min_length=1, description="how copies are changed, each in one of these ways"
    )

    @model_validator(mode="after")
    def _check(self) -> "DistillConfig":
        if bool(self.teachers) != bool(self.soft_loss_weight):
            raise ValueError(
                "`soft_loss_weight` (above 0) and `teachers` go together: give both or neither"
            )
        if not (self.soft_loss_weight or self.vector_loss_weight or self.states or self.attention):
            raise ValueError(
                "soft_loss_weight and vector_loss_weight are both 0: nothing is distilled"
            )
        return self


Open = Annotated[float, Field(gt=0, lt=1)]


class DecisionConfig(Section):
    """How probabilities become a tag, or a question to a person; see `tagger.decision`."""

    calibration: Literal["none", "temperature", "vector", "isotonic"] = Field(
        description="how probabilities are corrected"
    )
    policy: Literal["argmax", "threshold", "conformal"]
    target_precision: Open = Field(description="policy=threshold: promised of published items")
    confidence: Open = Field(description="policy=threshold: how sure the promise is")
    scope: Literal["overall", "per_tag"] = Field(
        description="policy=threshold: promised of all that is published, or of each tag"
    )
    alpha: Open = Field(description="policy=conformal: share of a tag's items that sets may miss")
    folds: int | None = Field(
        ge=2, le=20, description="fit to the training rows, out of this many folds (of an "
        "ensemble: as its members were); null: to the validation rows"
    )  # fmt: skip
    ood: Literal["none", "knn", "mahalanobis"] = Field(
        description="out-of-distribution score by which a person is asked about unfamiliar items"
    )
    ood_quantile: Open = Field(description="share of in-distribution items that pass")


class CompressConfig(Section):
    """How a run is made smaller and faster, and what it must keep; see `tagger.compression`."""

    name: FolderName = Field(description="what the compressed run's name ends in")
    dtype: Literal["fp32", "fp16", "int8", "int8_static"] = Field(
        description="data type of the weights; int8_static also quantizes activations"
    )
    per_channel: bool = Field(description="int8: a scale for each column of a matrix, not one")
    threads: int | None = Field(ge=1, le=1024, description="that answer an item; null: all cores")
    calibration_rows: int = Field(
        ge=1, le=100_000, description="int8_static: training rows that the ranges are taken from"
    )
    max_changed: Fraction = Field(description="share of texts that may be decided otherwise")
    max_shift: Fraction = Field(
        description="mean share of probability that may go from one tag to another"
    )
    max_ece: Fraction = Field(description="rise of the calibration error (adaptive bins)")
    max_class: Fraction = Field(description="fall of any tag's F1")
    max_slice: Fraction = Field(description="fall of any slice's accuracy, from 20 rows on")
    max_mib: float | None = Field(gt=0, le=1e6, description="size of model/; null: any")
    samples: int = Field(
        ge=1, le=10_000, description="rows kept for the check on another kind of CPU"
    )


class TrackingConfig(Section):
    """Where curves go, beside `metrics.jsonl`; see `tagger.training.tracking`."""

    kind: Literal["none", "wandb"]
    project: str = Field(min_length=1)
    mode: Literal["offline", "online"]


class Recipe(Section):
    """What is trained, on what, and how."""

    seed: Seed
    data: DataConfig
    model: ModelConfig
    training: TrainingConfig
    distill: DistillConfig | None = Field(description="null: no teacher")
    decision: DecisionConfig
    tracking: TrackingConfig

    @model_validator(mode="after")
    def _check_parts(self) -> "Recipe":
        fits_head = {
            "head_init=probe": self.training.head_init == "probe",
            "refit_head=true": self.training.refit_head,
        }
        for setting, given in fits_head.items():
            if given and isinstance(self.model, TransformerConfig) and self.model.head != "linear":
                raise ValueError(f"training.{setting} needs model.head=linear")
        if (
            isinstance(self.model, TransformerConfig)
            and self.model.static is not None
            and self.training.adversarial
        ):
            raise ValueError("training.adversarial needs layers, and model.static has none: set 0")
        self._check_distill()
        if self.decision.ood != "none" and not isinstance(self.model, EncoderConfig):
            raise ValueError(
                f"decision.ood={self.decision.ood} needs a model with an encoder, and "
                f"approach={self.model.approach} has none"
            )
        if (
            self.decision.folds is not None
            and isinstance(self.model, EnsembleConfig)
            and self.model.combine == "weights"
        ):
            raise ValueError(
                "decision.folds can't be given with model.combine=weights: what its members said "
                "out of folds is not what the mean of their weights says"
            )
        fitted = {"policy": "argmax", "ood": "none"}
        needy = [
            f"decision.{key}={getattr(self.decision, key)}"
            for key, free in fitted.items()
            if getattr(self.decision, key) != free
        ]
        if needy and self.decision.folds is None and not self.data.split.validation:
            raise ValueError(
                f"{' and '.join(needy)} must be fitted to rows: give decision.folds=5, or "
                "data.split.validation above 0"
            )
        return self

    def _check_distill(self) -> None:
        if self.distill is None:
            return
        if not isinstance(self.model, TransformerConfig):
            raise ValueError(f"distill needs approach=transformer, found {self.model.approach}")
        clashing = ("adversarial", "mixup", "r_drop", "contrast_loss_weight")
        if given := [name for name in clashing if getattr(self.training, name)]:
            raise ValueError(f"distill does not go with {' and '.join(given)}: set to 0")
        if self.distill.teachers and self.decision.folds is not None:
            raise ValueError(
                "decision.folds can't be given with distill.teachers, who have seen the labels of "
                "every fold: fit the decision to validation rows (decision.folds=null "
                "data.split.validation=0.15)"
            )


class TrainConfig(Recipe):
    """All that `train.py` takes."""

    name: FolderName | None = Field(description="of the run folder; null: model, data and time")
    runs_dir: str = Field(min_length=1)
    if_exists: Literal["fail", "resume", "replace"] = Field(
        description="when the run folder is there: refuse, go on with it, or start over"
    )
    resume: str | None = Field(description="a run that was stopped; it goes on as it was begun")


class LatencyConfig(Section):
    """How the time an item takes is measured."""

    items: int = Field(ge=10, le=100_000, description="items timed one by one")
    warmup: int = Field(ge=0, le=10_000, description="items before the clock starts")
    threads: int | None = Field(ge=1, le=1024, description="null: all cores")


class EvaluateConfig(Section):
    """All that `evaluate.py` takes."""

    run: str = Field(min_length=1, description="a run folder, or a name below runs_dir")
    runs_dir: str = Field(min_length=1)
    data: DataConfig | None = Field(description="null: the run's own source")
    rows: Literal["unseen", "all"] = Field(
        description="unseen: leave out what the run trained or stopped on, and its near-duplicates"
    )
    out: str | None = Field(
        min_length=1, description="a folder for the report; null: the run's own, or one in it"
    )
    against: str | None = Field(description="another run, compared item by item")
    guard: list[str] | None = Field(
        description="parts that must not be worse than `against` (exit code 3): slices, tags, "
        "'all rows'; null: all of them"
    )
    slice_columns: list[str] = Field(
        description="further columns of the data file whose values are slices"
    )
    resamples: int = Field(ge=100, le=100_000, description="bootstrap resamples of an interval")
    seed: Seed
    decision: DecisionConfig | None = Field(description="null: as the run decides")
    behaviour: Literal["auto", "on", "off"] = Field(
        description="try the cases of `behaviour_cases`; auto: if the run knows their tags"
    )
    behaviour_cases: str = Field(min_length=1, description="a yaml file of cases")
    explore: Literal["on", "off"] = Field(
        description="look for weak slices by meaning, show errors beside what was trained on, and "
        "a map of the rows; off: weak slices by words and length alone"
    )
    latency: LatencyConfig
    latency_budget_ms: float | None = Field(
        gt=0, description="most that 99 % of the items may take (exit code 3); null: anything"
    )


class ExportConfig(Section):
    """All that `tagger export` takes."""

    run: str = Field(min_length=1, description="a run folder, or a name below runs_dir")
    runs_dir: str = Field(min_length=1)
    name: FolderName | None = Field(description="of the new run; null: the run's, and the choice's")
    rows: str | None = Field(description="a file of further texts to compare decisions on")
    gate: bool = Field(description="refuse what changes more than `compress` allows")
    replace: bool = Field(description="put the new run in the place of one of that name")
    compress: CompressConfig


RowMetric = Literal[
    "accuracy", "macro_precision", "macro_recall", "macro_f1", "weighted_precision",
    "weighted_recall", "weighted_f1", "precision_at_80", "precision_at_90", "precision_at_95",
    "aurc", "log_loss",
]  # fmt: skip
"""An objective of a sweep that is counted over rows; `tagger.search.metrics` says how."""

CostMetric = Literal["p50_ms", "mib", "seconds"]
"""An objective of a sweep that is measured on a model."""

Objective = Literal[RowMetric, CostMetric]

ROW_METRICS: tuple[str, ...] = get_args(RowMetric)
COST_METRICS: tuple[str, ...] = get_args(CostMetric)
SMALLEST_POPULATION = 2


class SearchConfig(Section):
    """What a sweep tries, how it judges, and when it ends; see `tagger.search`."""

    name: FolderName = Field(description="what the space is called")
    space: dict[str, Any] = Field(
        description="keys of the training config, nested as there; see `tagger.search.space`"
    )
    objectives: list[Objective] = Field(
        min_length=1, max_length=4, description="one to rank by, or several for a Pareto front"
    )
    folds: int = Field(ge=2, le=100, description="of the cross-validation that judges a trial")
    repeats: int = Field(ge=1, le=100, description="times the rows are divided into folds anew")
    sampler: Literal["tpe", "random", "gp", "nsga2", "grid"]
    startup: int = Field(ge=1, le=10_000, description="trials at random before a model chooses")
    pruner: Literal["items", "wilcoxon", "median", "hyperband", "none"] = Field(
        description="what stops a trial fold by fold once it is clearly worse"
    )
    prune_p: float = Field(gt=0, le=0.5, description="items, wilcoxon: how sure that it is worse")
    trials: int | None = Field(ge=1, le=1_000_000, description="null: until the hours are over")
    hours: float | None = Field(gt=0, le=10_000, description="of search; null: all trials")
    workers: int = Field(ge=1, le=256, description="processes on this machine")
    storage: str | None = Field(
        description="null: a file in the sweep's folder; or a database, postgresql://..."
    )
    heartbeat: int = Field(
        ge=1, le=3600, description="seconds between signs of life; after four a trial is retried"
    )
    enqueue: list[str] = Field(description="runs, or yaml files of experiments, to try first")
    confirm: int = Field(ge=0, le=100, description="fresh seeds for the winner and the default")
    keep_trials: bool = Field(description="keep the folder of each trial: config, curves, rows")

    @model_validator(mode="after")
    def _check(self) -> "SearchConfig":
        if self.trials is None and self.hours is None and self.sampler != "grid":
            raise ValueError(
                "`trials` and `hours` are both null: give one, or the sweep never ends"
            )
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"`objectives` names one twice: {', '.join(self.objectives)}")
        if self.objectives[0] in COST_METRICS:
            raise ValueError(
                f"the first of `objectives` picks the winner and must be counted over rows: "
                f"{self.objectives[0]} is a cost; put it after one of {', '.join(ROW_METRICS)}"
            )
        if len(self.objectives) > 1 and self.pruner != "none":
            raise ValueError(
                f"pruner={self.pruner} ranks trials by one objective, and there are "
                f"{len(self.objectives)}: give pruner=none"
            )
        if self.pruner == "items" and self.objectives[0] not in ("accuracy", "weighted_f1"):
            raise ValueError(
                "pruner=items counts items that are right, which says little of "
                f"{self.objectives[0]}: give pruner=wilcoxon, or median, hyperband or none"
            )
        if self.sampler == "nsga2" and self.startup < SMALLEST_POPULATION:
            raise ValueError(f"sampler=nsga2 crosses a population of `startup`: {self.startup} < 2")
        if self.sampler == "nsga2" and len(self.objectives) == 1 and self.pruner != "none":
            raise ValueError("sampler=nsga2 learns from whole trials alone: give pruner=none")
        return self


class OptimizeConfig(Recipe):
    """All that `optimize.py` takes: the recipe to start from, and a search over it."""

    name: FolderName | None = Field(description="of the sweep; null: space, model and data")
    sweeps_dir: str = Field(min_length=1)
    runs_dir: str = Field(min_length=1, description="where `search.enqueue` looks for runs")
    search: SearchConfig

    @model_validator(mode="after")
    def _check_search(self) -> "OptimizeConfig":
        if self.data.split.folds is not None:
            raise ValueError("data.split.folds can't be given: search.folds says how many")
        if isinstance(self.model, EnsembleConfig):
            raise ValueError("model=ensemble has nothing to search: its members are finished runs")
        if self.distill is not None and self.distill.teachers:
            raise ValueError(
                "distill.teachers have seen labels of the rows that trials are judged on: search "
                "without them (distill=source)"
            )
        return self

    @property
    def base(self) -> TrainConfig:
        """The config that the search starts from."""
        recipe = self.model_dump(include=set(Recipe.model_fields))
        start = {"name": None, "runs_dir": self.runs_dir, "if_exists": "fail", "resume": None}
        return TrainConfig.model_validate(recipe | start)


SectionT = TypeVar("SectionT", bound=Section)
SCHEMAS: dict[str, type[Section]] = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "optimize": OptimizeConfig,
    "export": ExportConfig,
}
