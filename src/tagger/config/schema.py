"""Defines the typed schema of `configs/`: every key, its type, its range, and what it does.

Hydra composes the yaml files (`tagger.config.composition`); the models below decide what is valid.
What a key does stands below it.
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

    # Built when they are first used: who only decides needs hardly one of them.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class SplitConfig(Section):
    """How labelled items are divided; see `tagger.data.splits`."""

    validation: Fraction
    """Share of the rows for validation (early stopping); 0 for none."""
    test: Fraction
    """Share of the rows for the test; ignored when `fold` is given."""
    seed: Seed
    """Seed of the split alone, so that runs of several seeds share their test rows."""
    column: str | None = Field(min_length=1)
    """Column of the table that names each row's part; null: rows are dealt."""
    folds: int | None = Field(ge=2, le=100)
    """Number of folds of a cross-validation."""
    fold: int | None = Field(ge=0)
    """The fold that is the test set, counted from 0."""
    per_tag: int | None = Field(ge=1)
    """Most training rows of each tag; null: all."""
    # Runs that were made before there was this key kept near-duplicates together.
    group: Grouping = "near-duplicates"
    """What stays in one part; off: rows are dealt one by one, with a warning."""

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

    name: FolderName
    """Name of the source in reports."""
    source: Literal["file", "hub", "download"]
    """What is read: a file, a dataset of the Hugging Face hub, or a file that is downloaded."""
    path: str | None
    """source=file: a CSV, JSON, Parquet or Arrow file, or a folder of `datasets`."""
    test_path: str | None
    """source=file: a second file, whose rows are the test."""
    hub_id: str | None
    """source=hub: id of a dataset of the Hugging Face hub."""
    hub_subset: str | None
    """source=hub: the subset (config) of the dataset."""
    hub_split: str
    """source=hub: the split to read."""
    hub_test_split: str | None
    """source=hub: the split whose rows are the test."""
    hub_revision: str | None
    """source=hub: a commit, for reproducible results."""
    url: str | None
    """source=download: URL of a file, pinned to a commit."""
    sha256: Sha256 | None
    """source=download: SHA-256 that the file must have."""
    # Runs that were made before there was this key have none.
    more: list[str] = []
    """Further labelled files of the same tags, divided, folded and tested like the first."""
    extra: list[str]
    """Further labelled files for training alone; none of their rows is held out."""
    extra_weight: float = Field(gt=0, le=100)
    """Weight of each of their rows."""
    columns: dict[str, str]
    """Field (or text): column of the source; '': a field that is not read."""
    delimiter: str | None = Field(min_length=1, max_length=1)
    """Delimiter of a CSV file; null: it is found."""
    dates: Literal["iso", "day-first", "month-first"]
    """Order of dates like 03/02/2020; iso: such dates are refused."""
    tags: str = Field(min_length=1)
    """File that lists the approved tags; auto: the tags of the data."""
    split: SplitConfig

    @model_validator(mode="after")
    def _check(self) -> "DataConfig":
        needed = {"file": ("path",), "hub": ("hub_id",), "download": ("url", "sha256")}[self.source]
        if missing := [f"data.{key}=..." for key in needed if getattr(self, key) is None]:
            raise ValueError(f"source={self.source} needs {' and '.join(missing)}")
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
    known = ("id", "created_on", "title", "description", "text", "tag", "weight")
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
    """Number of layers."""
    hidden: int = Field(ge=8, le=4096)
    """Width of the token vectors."""
    heads: int = Field(ge=1, le=64)
    """Attention heads of a layer."""
    intermediate: int = Field(ge=8, le=16384)
    """Width of the feed-forward blocks."""

    @model_validator(mode="after")
    def _check(self) -> "RandomEncoderConfig":
        if self.hidden % self.heads:
            raise ValueError(f"hidden={self.hidden} is not a multiple of heads={self.heads}")
        return self


class EncoderConfig(Section):
    """A pretrained encoder, and how it makes one vector of a text; see `tagger.models.encoders`."""

    name: FolderName
    """Name of the model in run names and reports."""
    encoder: str = Field(min_length=1)
    """package:NAME, pieces:NAME, random, a folder, or an id of the hub."""
    revision: str | None
    """Commit of an encoder of the hub, for reproducible results."""
    sha256: Sha256 | None
    """SHA-256 that the encoder's weights must have."""
    random: RandomEncoderConfig | None
    """encoder=random: shape of the encoder."""
    pooling: Literal["mean", "cls", "max"]
    """How token vectors become one: their mean, that of the first token, or their maximum."""
    max_length: int = Field(ge=4, le=8192)
    """Most tokens of a text; longer texts are truncated."""

    @model_validator(mode="after")
    def _check(self) -> "EncoderConfig":
        if (self.encoder == "random") != (self.random is not None):
            raise ValueError("`random` (a shape) is given exactly when encoder=random")
        return self


class TransformerConfig(EncoderConfig):
    """An encoder that is fine-tuned under a head; see `tagger.models.transformer`."""

    approach: Literal["transformer"]
    """Which approach this is; the other keys go with it."""
    head: Literal["linear", "mlp"]
    """What is between the text's vector and the tags: one layer, or two."""
    dropout: Fraction
    """Dropout rate between pooling and head."""
    encoder_dropout: Fraction | None
    """Dropout rate in the encoder; null: the rate of its pretraining."""
    keep_layers: list[Annotated[int, Field(ge=0, le=47)]] | None = Field(min_length=1)
    """Layers of the encoder that are kept, 0 the lowest; null: all."""
    keep_neurons: int | None = Field(ge=1, le=16384)
    """Neurons that are kept in each feed-forward block; null: all."""
    vocabulary_from: list[str] | None = Field(min_length=1)
    """Files of items whose tokens are kept in the vocabulary; null: all tokens."""
    vocabulary_size: int | None = Field(ge=1, le=1_000_000)
    """Number of the most frequent of these tokens that are kept; null: all."""
    static: int | None = Field(ge=8, le=4096)
    """Width of static token vectors in place of the encoder; null: the encoder."""
    freeze_embeddings: bool
    """Whether token embeddings are left untrained."""
    freeze_layers: int = Field(ge=0, le=48)
    """Number of lowest layers that are left untrained."""

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
    """Which approach this is; the other keys go with it."""
    C: float = Field(gt=0, le=1e6)
    """Inverse regularisation strength of the logistic regression."""
    balanced: bool
    """Whether each tag has the same total weight."""


class LinearConfig(Section):
    """A linear model on words and characters; see `tagger.models.linear`."""

    approach: Literal["linear"]
    """Which approach this is; the other keys go with it."""
    name: FolderName
    """Name of the model in run names and reports."""
    word_ngrams: int = Field(ge=1, le=5)
    """Longest n-gram of words."""
    char_ngrams: int = Field(ge=2, le=8)
    """Longest n-gram of characters within a word."""
    C: float = Field(gt=0, le=1e6)
    """Inverse regularisation strength of the support vector machines."""
    balanced: bool
    """Whether each tag has the same total weight."""


class RulesConfig(Section):
    """Words and patterns that speak for a tag; see `tagger.models.rules`."""

    approach: Literal["rules"]
    """Which approach this is; the other keys go with it."""
    name: FolderName
    """Name of the model in run names and reports."""
    rules: str = Field(min_length=1)
    """File that lists the rules."""


class EnsembleConfig(Section):
    """Finished runs that answer together; see `tagger.models.ensemble`."""

    approach: Literal["ensemble"]
    """Which approach this is; the other keys go with it."""
    name: FolderName
    """Name of the model in run names and reports."""
    runs: list[str] = Field(min_length=2, max_length=100)
    """Folders or names of the member runs."""


ModelConfig = Annotated[
    TransformerConfig | FrozenConfig | LinearConfig | RulesConfig | EnsembleConfig,
    Field(discriminator="approach"),
]
APPROACHES = ("transformer", "frozen", "linear", "rules", "ensemble")


class TrainingConfig(Section):
    """The recipe; see `tagger.training`."""

    epochs: int = Field(ge=1, le=1000)
    """Most passes over the training rows."""
    batch_size: int = Field(ge=1, le=4096)
    """Items of a step, over all processes."""
    accumulation_steps: int = Field(ge=1, le=256)
    """Number of parts that a batch is computed in."""
    lr: float = Field(gt=0, le=1)
    """Peak learning rate of the encoder's top layer."""
    head_lr: float = Field(gt=0, le=1)
    """Peak learning rate of the head."""
    layer_decay: float = Field(gt=0, le=1)
    """Factor on the learning rate from a layer to the one below it."""
    weight_decay: float = Field(ge=0, le=1)
    """Decoupled weight decay of AdamW; biases and normalization do not decay."""
    warmup: Fraction
    """Share of the steps in which the learning rate rises."""
    schedule: Literal["linear", "cosine", "constant"]
    """How the learning rate falls after the warmup."""
    head_init: Literal["random", "probe"]
    """Start of the head; probe: a logistic regression on the frozen encoder."""
    probe_C: float = Field(gt=0, le=1e6)
    """head_init=probe: inverse regularisation strength of the regression."""
    ema_decay: Fraction
    """Decay of the exponential moving average of the weights; 0: no average."""
    token_dropout: Fraction
    """Share of a text's tokens that are left out at each step."""
    typos: Fraction
    """Share of words that get a typo at each step."""
    max_grad_norm: float = Field(gt=0, le=1e6)
    """Norm to which gradients are clipped."""
    loss: Literal["cross_entropy", "focal"]
    """Loss against the labels."""
    focal_gamma: float = Field(ge=0, le=10)
    """loss=focal: focusing parameter."""
    label_smoothing: Fraction
    """Share of each label's weight that is spread over all tags."""
    class_loss_weight: float = Field(ge=0, le=100)
    """Weight of the loss against the labels."""
    contrast_loss_weight: float = Field(ge=0, le=100)
    """Weight of the supervised contrastive loss."""
    contrast_temperature: float = Field(gt=0, le=10)
    """Temperature of the contrastive loss."""
    adversarial: float = Field(ge=0, le=1)
    """Relative size of adversarial noise on embeddings; 0: none."""
    refit_head: bool
    """Whether the head is fitted anew at the end, as head_init=probe does."""
    class_weights: Literal["none", "balanced"]
    """Weights of tags in the loss; balanced: each tag has the same total weight."""
    mixed_precision: Literal["auto", "fp32", "bf16"]
    """Data type of the forward pass; auto: bf16 where it is fast."""
    metric: Literal["macro_f1", "weighted_f1", "accuracy", "loss"]
    """Validation metric that picks the best epoch."""
    patience: int | None = Field(ge=1)
    """Epochs without improvement before training stops; null: it does not."""
    checkpoint_seconds: float = Field(ge=0)
    """Seconds of training between checkpoints; 0: one at each step."""
    threads: int | None = Field(ge=1, le=1024)
    """Threads of each process; null: all cores, divided among processes."""
    # Runs of before have no such key.
    profile_steps: int = Field(default=0, ge=0, le=1000)
    """Steps, from the third on, whose profile goes to trace.json.gz; 0: none."""

    @model_validator(mode="after")
    def _check(self) -> "TrainingConfig":
        if self.adversarial and self.contrast_loss_weight:
            raise ValueError("adversarial does not go with contrast_loss_weight: set one to 0")
        if not (self.class_loss_weight or self.contrast_loss_weight):
            raise ValueError(
                "class_loss_weight and contrast_loss_weight are both 0: nothing is minimised"
            )
        return self


class DistillConfig(Section):
    """What a student learns from a teacher; see `tagger.training.distillation`.

    The source of a student is the encoder that its layers were taken from, whole and as it was.
    """

    teachers: list[str]
    """Runs whose mean probabilities are the soft labels; []: no teacher."""
    soft_loss_weight: float = Field(ge=0, le=100)
    """Weight of the loss against the teachers' probabilities."""
    temperature: float = Field(gt=0, le=100)
    """Temperature of teachers and student in the soft loss."""
    class_loss_weight: float = Field(ge=0, le=100)
    """Weight of the loss against the labels."""
    vector_loss_weight: float = Field(ge=0, le=100)
    """Weight of the loss against the source encoder's text vectors."""
    transfer: list[str]
    """Files of unlabelled items to learn from (tags are not read)."""
    transfer_most: int | None = Field(ge=1)
    """Number of these items that are drawn by the seed; null: all."""
    # Students of before learnt from whole items alone.
    parts: bool = False
    """Whether titles and descriptions of the labelled items, each alone, are learnt from too."""
    transfer_weight: float = Field(gt=0, le=100)
    """Weight of each of their rows."""

    @model_validator(mode="after")
    def _check(self) -> "DistillConfig":
        if bool(self.teachers) != bool(self.soft_loss_weight):
            raise ValueError(
                "`soft_loss_weight` (above 0) and `teachers` go together: give both or neither"
            )
        if not (self.soft_loss_weight or self.vector_loss_weight):
            raise ValueError(
                "soft_loss_weight and vector_loss_weight are both 0: nothing is distilled"
            )
        return self


Open = Annotated[float, Field(gt=0, lt=1)]


class DecisionConfig(Section):
    """How probabilities become a tag, or a question to a person; see `tagger.decision`."""

    calibration: Literal["none", "temperature", "vector", "isotonic"]
    """Calibration method of the probabilities."""
    policy: Literal["argmax", "threshold", "conformal"]
    """Rule by which a tag is published, or a person is asked."""
    target_precision: Open
    """policy=threshold: promised precision of published items."""
    confidence: Open
    """policy=threshold: confidence with which the promise holds."""
    scope: Literal["overall", "per_tag", "per_source"]
    """policy=threshold: whether the promise is for all items, for each tag, or for each file of the
    source (`data.more`)."""
    alpha: Open
    """policy=conformal: share of a tag's items that prediction sets may miss."""
    folds: int | None = Field(ge=2, le=20)
    """Folds whose out-of-fold predictions the decision is fitted to (of an ensemble: those of its
    members); null: it is fitted to the validation rows."""
    ood: Literal["none", "knn"]
    """Out-of-distribution (OOD) score beyond which a person is asked."""
    ood_quantile: Open
    """Quantile of the OOD score of in-distribution items that is the limit."""


class CompressConfig(Section):
    """How a run is made smaller and faster, and what it must keep; see `tagger.compression`."""

    name: FolderName
    """Ending of the compressed run's name."""
    dtype: Literal["fp32", "fp16", "int8"]
    """Data type of the weights."""
    per_channel: bool
    """int8: whether each column of a matrix has a scale of its own."""
    threads: int | None = Field(ge=1, le=1024)
    """Threads that answer an item; null: all cores."""
    max_changed: Fraction
    """Most texts whose decision may change (share)."""
    max_shift: Fraction
    """Most mean total variation distance of the probabilities."""
    max_ece: Fraction
    """Most rise of the calibration error (adaptive bins)."""
    max_class: Fraction
    """Most fall of any tag's F1."""
    max_slice: Fraction
    """Most fall of the accuracy of any slice of at least 20 rows."""
    max_mib: float | None = Field(gt=0, le=1e6)
    """Most MiB of the folder model/; null: any."""
    samples: int = Field(ge=1, le=10_000)
    """Rows that are stored to check the model on another CPU."""


class TrackingConfig(Section):
    """Where curves go, beside `metrics.jsonl`; see `tagger.training.tracking`."""

    kind: Literal["none", "wandb", "tensorboard", "mlflow", "trackio"]
    """Tracker that curves go to."""
    project: str = Field(min_length=1)
    """Project of the tracker; mlflow calls it experiment, tensorboard has none."""
    # Runs of before have none of the keys below, but for mode.
    tags: list[str] = []
    """Marks of the run, in wandb and mlflow."""
    notes: str | None = None
    """What the run is about, in wandb and mlflow."""
    group: str | None = None
    """Group of the run, but for tensorboard; null: none, of a sweep's trials the sweep's name."""
    entity: str | None = None
    """User or team whose project in wandb it is; null: wandb's own default."""
    mode: Literal["offline", "online"] | None
    """Whether wandb writes files to be sent later, or sends at once; null: $WANDB_MODE, else
    offline."""
    artifacts: bool = True
    """Whether an evaluated run's config, model, report and plots go to the tracker."""


class Recipe(Section):
    """What is trained, on what, and how."""

    seed: Seed
    """Seed of everything that is random, but for the split."""
    data: DataConfig
    model: ModelConfig
    training: TrainingConfig
    distill: DistillConfig | None
    """Distillation; null: none."""
    decision: DecisionConfig
    tracking: TrackingConfig

    @model_validator(mode="after")
    def _check_parts(self) -> "Recipe":
        if isinstance(self.model, TransformerConfig):
            if self.training.head_init == "probe" and self.model.head != "linear":
                raise ValueError("training.head_init=probe needs model.head=linear")
            if self.training.refit_head and self.model.head != "linear":
                raise ValueError("training.refit_head=true needs model.head=linear")
            if self.training.adversarial and self.model.static is not None:
                raise ValueError(
                    "training.adversarial needs layers, and model.static has none: set 0"
                )
        self._check_distill()
        if self.decision.ood != "none" and not isinstance(self.model, EncoderConfig):
            raise ValueError(
                f"decision.ood={self.decision.ood} needs a model with an encoder, and "
                f"approach={self.model.approach} has none"
            )
        fitted = self.decision.policy != "argmax" or self.decision.ood != "none"
        if fitted and self.decision.folds is None and not self.data.split.validation:
            raise ValueError(
                f"decision.policy={self.decision.policy} with decision.ood={self.decision.ood} "
                "must be fitted to rows: give decision.folds=5, or data.split.validation above 0"
            )
        return self

    def _check_distill(self) -> None:
        if self.distill is None:
            return
        if not isinstance(self.model, TransformerConfig):
            raise ValueError(f"distill needs approach=transformer, found {self.model.approach}")
        clashing = ("adversarial", "contrast_loss_weight")
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

    name: FolderName | None
    """Name of the run folder; null: model, data and time."""
    runs_dir: str = Field(min_length=1)
    """Folder that runs lie in."""
    if_exists: Literal["fail", "resume", "replace"]
    """When the run folder exists: refuse, go on with it, or start over."""
    resume: str | None
    """A run that was stopped, to go on with as it was begun."""


class LatencyConfig(Section):
    """How the time an item takes is measured."""

    items: int = Field(ge=10, le=100_000)
    """Items that are timed one by one."""
    warmup: int = Field(ge=0, le=10_000)
    """Items before the timing starts."""
    threads: int | None = Field(ge=1, le=1024)
    """Threads of the model; null: all cores."""


class EvaluateConfig(Section):
    """All that `evaluate.py` takes."""

    run: str = Field(min_length=1)
    """Run folder, or its name below runs_dir."""
    runs_dir: str = Field(min_length=1)
    """Folder that runs lie in."""
    data: DataConfig | None
    """Source of the rows; null: the run's own test rows."""
    rows: Literal["unseen", "all"]
    """unseen: without rows of training or validation and their near-duplicates."""
    out: str | None = Field(min_length=1)
    """Folder of the report; null: the run folder, or one in it."""
    against: str | None
    """Another run to compare with, item by item."""
    guard: list[str] | None
    """Slices and tags (or 'all rows') that must not be worse than `against`, else exit code 3;
    null: all of them."""
    slice_columns: list[str]
    """Further columns of the data file whose values are slices."""
    resamples: int = Field(ge=100, le=100_000)
    """Bootstrap resamples of an interval."""
    seed: Seed
    """Seed of the bootstrap."""
    decision: DecisionConfig | None
    """Decision to fit anew; null: the run's own."""
    behaviour: Literal["auto", "on", "off"]
    """Whether the behaviour cases are tried; auto: if the run has their tags."""
    behaviour_cases: str = Field(min_length=1)
    """YAML file of behaviour cases."""
    explore: Literal["on", "off"]
    """Weak slices by meaning, nearest training items of errors, a map of the rows; off: weak slices
    by words and length alone."""
    latency: LatencyConfig
    latency_budget_ms: float | None = Field(gt=0)
    """Most p99 in milliseconds, else exit code 3; null: any."""


class ExportConfig(Section):
    """All that `tagger export` takes."""

    run: str = Field(min_length=1)
    """Run folder, or its name below runs_dir."""
    runs_dir: str = Field(min_length=1)
    """Folder that runs lie in."""
    name: FolderName | None
    """Name of the new run; null: the run's and the choice's."""
    rows: str | None
    """File of further texts to compare decisions on."""
    gate: bool
    """Whether an export that breaks a limit of `compress` is refused."""
    replace: bool
    """Whether a run of that name is replaced."""
    compress: CompressConfig


class BuildModel(Section):
    """A model that a build trains."""

    name: FolderName
    """Name of its run."""
    overrides: list[str] = Field(min_length=1)
    """Overrides of train.py that make it."""
    passes: float = Field(ge=0)
    """Time that one text of its training takes, in passes of the encoder, to plan by."""


class BuildSteps(Section):
    """What a build trains, in this order, and what it may choose; see `tagger.build`."""

    name: FolderName
    """Name of these steps."""
    models: list[BuildModel] = Field(min_length=1)
    """From the plainest to the dearest; together they teach the student."""
    student: BuildModel
    """Taught by the models."""
    compress: str = Field(min_length=1)
    """Choice of `compress` that the student is exported by."""
    max_p99_ms: float = Field(gt=0)
    """Most p99 in milliseconds of the run that is chosen."""
    held_out: int = Field(ge=1)
    """Rows to fit the decision to, fewer than which are not held out, folds or not."""
    folds: int | None = Field(ge=2, le=20)
    """Folds without each of which all is trained again, where the budget allows; null: rows are
    held out, so that some are left to evaluate the result on."""
    few_texts: int = Field(ge=1)
    """Texts without a label that the student learns from before a dearer teacher is added."""


class BuildConfig(Section):
    """All that `tagger build` takes."""

    files: list[str] = Field(min_length=1)
    """Labelled files."""
    tags: str = Field(min_length=1)
    """File that lists the approved tags; auto: the tags of the data."""
    transfer: list[str]
    """Files of further text for the student (tags are not read)."""
    promise: Open
    """Promised precision of what is published."""
    confidence: Open
    """Confidence with which the promise holds."""
    budget_minutes: float = Field(gt=0, le=100_000)
    """Minutes that all may take."""
    name: FolderName
    """Name of the run that is made; its steps are below NAME.build."""
    runs_dir: str = Field(min_length=1)
    """Folder that runs lie in."""
    seed: Seed
    """Seed of all trainings."""
    train: list[str]
    """Overrides of train.py that all models are trained with."""
    build: BuildSteps


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


class SearchConfig(Section):
    """What a sweep tries, how it judges, and when it ends; see `tagger.search`."""

    name: FolderName
    """Name of the search space."""
    space: dict[str, Any]
    """Keys of the training config and their ranges; see `tagger.search.space`."""
    objectives: list[Objective] = Field(min_length=1, max_length=4)
    """Objective to rank by; several make a Pareto front."""
    folds: int = Field(ge=2, le=100)
    """Folds of the cross-validation that judges a trial."""
    repeats: int = Field(ge=1, le=100)
    """Repeats of the cross-validation with another division."""
    sampler: Literal["tpe", "random", "gp", "nsga2", "grid"]
    """How the next config is chosen; grid: every combination once."""
    startup: int = Field(ge=1, le=10_000)
    """Random trials before the sampler's model chooses."""
    pruner: Literal["items", "wilcoxon", "median", "hyperband", "none"]
    """Rule that stops a trial after a fold in which it is clearly worse."""
    prune_p: float = Field(gt=0, le=0.5)
    """items, wilcoxon: significance level of the pruner."""
    trials: int | None = Field(ge=1, le=1_000_000)
    """Number of trials; null: as many as the hours allow."""
    hours: float | None = Field(gt=0, le=10_000)
    """Hours of the sweep; null: no limit."""
    workers: int = Field(ge=1, le=256)
    """Worker processes on this machine."""
    storage: str | None
    """URL of a database, postgresql://...; null: a file in the sweep's folder."""
    heartbeat: int = Field(ge=1, le=3600)
    """Seconds between heartbeats of a worker; four missed ones retry its trial."""
    enqueue: list[str]
    """Runs, or YAML files of experiments, to try first."""
    confirm: int = Field(ge=0, le=100)
    """Fresh seeds on which winner and default are confirmed."""
    keep_trials: bool
    """Whether the folder of each trial is kept: config, curves, rows."""

    @model_validator(mode="after")
    def _check(self) -> "SearchConfig":
        if self.trials is None and self.hours is None and self.sampler != "grid":
            raise ValueError(
                "`trials` and `hours` are both null: give one, or the sweep never ends"
            )
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
        if self.sampler == "nsga2" and self.startup < 2:
            raise ValueError(f"sampler=nsga2 crosses a population of `startup`: {self.startup} < 2")
        if self.sampler == "nsga2" and len(self.objectives) == 1 and self.pruner != "none":
            raise ValueError("sampler=nsga2 learns from whole trials alone: give pruner=none")
        return self


class OptimizeConfig(Recipe):
    """All that `optimize.py` takes: the recipe to start from, and a search over it."""

    name: FolderName | None
    """Name of the sweep's folder; null: space, model and data."""
    sweeps_dir: str = Field(min_length=1)
    """Folder that sweeps lie in."""
    runs_dir: str = Field(min_length=1)
    """Folder in which `search.enqueue` looks for runs."""
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
    "build": BuildConfig,
}
