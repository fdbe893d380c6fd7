"""Settings, split by consequence: what changes the guarantee, what changes the text, what changes only speed.

Everything here is public. A flag beats the file, the file beats the preset, the preset beats the default.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from pretext.config.presets import PRESETS
from pretext.identity import normalize_identity
from pretext.prompts import PromptStyle
from privacy import Relation, Unit
from privacy.accounting import LEAST_DELTA

_FEATURES = 6000
"""Features of a profile where nothing is known of the clients' number."""


class Section(BaseModel):
    """A table of the configuration file; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Section):
    """Where the private texts are. Read only while clients are asked to vote."""

    path: str = Field("", description="data file, folder of such files, or Hugging Face dataset id")
    subset: str | None = Field(None, description="configuration of a Hugging Face dataset")
    split: str = Field("train", description="split of a Hugging Face dataset")
    text_column: str = Field("text", description="column that holds the text")
    client_column: str | None = Field(
        None,
        description="column that tells clients apart, or user.id for the id inside of objects in column user; without "
        "it, every record is a client of its own",
    )
    label_column: str | None = Field(
        None, description="column that holds a label; every synthetic text then carries one too"
    )
    labels: tuple[str, ...] = Field(
        (), description="public list of labels, required with label_column; texts with any other label are not used"
    )

    @property
    def columns(self) -> list[str]:
        """The columns to read, each once."""
        columns = [self.text_column, self.client_column, self.label_column]
        return list(dict.fromkeys(column for column in columns if column is not None))

    @field_validator("labels", mode="before")
    @classmethod
    def _accept_numbers(cls, labels: object) -> object:
        if not isinstance(labels, list | tuple):
            return labels
        return tuple(label if isinstance(label, str) else normalize_identity(label) or label for label in labels)

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        if self.label_column is not None and not self.labels:
            raise ValueError(
                "labels must list the labels when label_column is set: which labels occur is private itself"
            )
        names = set(map(normalize_identity, self.labels))
        if None in names:
            raise ValueError("labels holds a blank label")
        if len(names) != len(self.labels):
            raise ValueError("labels holds the same label twice")
        return self


class Privacy(Section):
    """What changes the guarantee."""

    epsilon: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="privacy loss of the whole run (or give noise_multiplier)"
    )
    noise_multiplier: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="noise of a round / sensitivity; epsilon follows from it"
    )
    delta: float = Field(
        1e-6,
        ge=LEAST_DELTA,
        lt=1,
        description="probability mass outside of epsilon; keep it below one over the number of clients",
    )
    relation: Relation = Field(Relation.ADD_REMOVE, description="neighboring datasets: add/remove or replace-one")
    release: Literal["votes", "profile"] = Field(
        "votes",
        description="what clients answer in a round: votes for each candidate, as in PrE-Text, or a profile, counts of "
        "public features and of votes for clusters of a large pool",
    )
    rounds: int = Field(8, ge=1, le=1000, description="rounds, each one release")
    max_texts_per_client: int = Field(
        8, ge=1, le=10_000, description="most texts that a client answers with, chosen at random"
    )
    vote_norm: float | None = Field(
        None,
        ge=1e-3,
        le=1e6,
        description="votes: L2 bound C on a client's votes; default: sqrt(max_texts_per_client)",
    )
    normalize_votes: bool = Field(
        True, description="votes: scale every client's votes up to the bound too, so that all clients count alike"
    )
    dataset: str | None = Field(None, description="name of the dataset in the ledger; default: the file's name")
    budget_epsilon: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="most that may ever be spent on a new dataset; default: this run's epsilon",
    )
    clients: int | None = Field(
        None,
        ge=1,
        description="public estimate of the number of clients, for `plan` and its warnings; never read from the data",
    )
    clients_exact: bool = Field(
        False, description="the number of clients is exact and public; FreD then spends nothing on counting them"
    )

    @property
    def norm_squared(self) -> Fraction:
        """Bound on the squared L2 norm of a client's answer, exact; of votes in squared votes, of a profile 1."""
        if self.release == "profile":
            return Fraction(1)
        if self.vote_norm is None:
            return Fraction(self.max_texts_per_client)
        return Fraction(self.vote_norm) ** 2

    @field_validator("dataset")
    @classmethod
    def _normalize_name(cls, name: str | None) -> str | None:
        """Take one name in two spellings for one: a second name would be a second budget."""
        normal = normalize_identity(name)
        if name is not None and normal is None:
            raise ValueError("the name is blank")
        return normal

    @model_validator(mode="after")
    def _check_privacy_target(self) -> Self:
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise ValueError("give either epsilon or noise_multiplier, for example epsilon = 1.0")
        return self


class Initial(Section):
    """Where the first population comes from. All of it is public: choose nothing here by looking at private texts."""

    texts: str | None = Field(None, description="public file or Hugging Face dataset id")
    subset: str | None = Field(None, description="configuration of a Hugging Face dataset")
    split: str = Field("train", description="split of a Hugging Face dataset")
    text_column: str = Field("text", description="column of the public file that holds the text")
    most_rows: int = Field(1_000_000, ge=1, le=10**15, description="most rows of the public source to read")
    min_words: int = Field(5, ge=1, description="public texts with fewer words are dropped")
    max_words: int = Field(100, ge=1, description="public texts with more words are cut to this many")
    prompts: tuple[str, ...] = Field(
        (),
        description="public sentences that describe the domain; the generator writes the first texts from them; "
        "without labels, a single sentence is added to every later prompt too",
    )
    examples: tuple[str, ...] = Field(
        (),
        description="invented examples of the domain, shown in the first prompts; without labels, every later few-shot "
        "prompt begins with them too",
    )
    prompted_share: float = Field(
        0.5, ge=0, le=1, description="share of the first population written from prompts when texts are given too"
    )
    public_sets: tuple[str, ...] = Field(
        (),
        description="public files or Hugging Face dataset ids, in place of texts; FreD finds those nearest to the "
        "private texts",
    )
    public_set_texts: int = Field(20_000, ge=1, description="most texts of each public set to embed, drawn at random")
    public_sets_used: int = Field(
        1, ge=1, description="number of public sets to start from, in equal parts: those whose mixture is nearest"
    )
    public_sets_share: float = Field(
        0.1, gt=0, lt=1, description="share of epsilon that ranking the public sets may spend; the rounds get the rest"
    )

    @property
    def locations(self) -> list[str]:
        """Where public texts may come from: the configured source, or the sets of which FreD chooses."""
        return [self.texts] if self.texts is not None else list(self.public_sets)


class Profile(Section):
    """What a profile asks, and how the pool is weighed by it. All of it is public."""

    prompted_texts: int = Field(2000, ge=0, le=1_000_000, description="texts of the pool written from the prompts")
    guided_texts: int = Field(
        2000, ge=0, le=1_000_000, description="texts written after the release, from sentence starts drawn from it"
    )
    adapted_texts: int = Field(
        2000, ge=100, le=1_000_000, description="texts by which the adapted generator is judged, and its first ones"
    )
    public_texts: int = Field(
        20_000, ge=0, le=1_000_000, description="most texts of each public source in the pool, drawn at random"
    )
    features: int | None = Field(
        None,
        ge=16,
        le=1_000_000,
        description="public features to count: words, word pairs and triples, starts, ends, lengths and marks; "
        "default: 5 for each client and unit of epsilon, 1,000 to 12,000",
    )
    clusters: int = Field(256, ge=2, le=100_000, description="clusters of the pool that clients vote for")
    feature_share: float = Field(
        0.7, gt=0, lt=1, description="share of a client's squared norm for the features; the clusters get the rest"
    )
    box: float = Field(
        2.5,
        gt=0,
        allow_inf_nan=False,
        description="the weighed pool may miss a released count by this many standard deviations of its noise",
    )


class Adapt(Section):
    """How the generator is adapted to the weighed pool. Post-processing: it costs no privacy."""

    method: Literal["lora", "full", "none"] = Field(
        "lora",
        description="lora: train a LoRA adapter; full: train all weights of a small model; none: use the model as it "
        "is",
    )
    texts: int = Field(1600, ge=32, le=1_000_000, description="draws from the weighed pool to train on")
    passes: int = Field(3, ge=1, le=100, description="most passes over them; fewer where the held-out loss rises")
    rank: int = Field(32, ge=1, le=512, description="lora: rank of the adapter")
    learning_rate: float = Field(5e-4, gt=0, le=1, description="highest learning rate, after the warm-up")
    batch_size: int = Field(16, ge=1, le=4096, description="texts per step")


class Evolution(Section):
    """How released votes move the population. Post-processing: it costs no privacy."""

    population: int = Field(512, ge=2, le=1_000_000, description="candidates per round")
    lookahead: int = Field(
        0, ge=0, le=64, description="variations whose mean embedding stands for a candidate; 0: its own embedding"
    )
    nearest: int = Field(
        1, ge=1, le=100, description="number of nearest candidates among which a text's one vote is split"
    )
    selection: Literal["multinomial", "rank"] = Field(
        "multinomial",
        description="multinomial: draw parents in proportion to their noisy votes above the threshold; rank: the "
        "candidates with the most votes take equal turns",
    )
    survivors: float = Field(0.25, gt=0, le=1, description="rank: largest share of the population that survives")
    threshold: float = Field(
        1.5,
        ge=0,
        allow_inf_nan=False,
        description="noisy votes below this many noise standard deviations count as zero",
    )
    kept_parents: float = Field(
        0.25, ge=0, lt=1, description="share of the next population filled with the best survivors, unchanged"
    )
    seeds_from_round: int | None = Field(
        None,
        ge=0,
        description="first round whose survivors become seeds; default: skip the first three eighths of the rounds, "
        "which are still near the public texts",
    )
    seed_power: float = Field(
        0.5,
        ge=0,
        le=1,
        description="each seed is shown in proportion to its noisy votes above the threshold, raised to this power",
    )
    seed: int = Field(0, ge=0, description="seed of every random choice but the noise, which has none")


class Variation(Section):
    """How new candidates are made from survivors."""

    kind: Literal["in-context", "rewrite", "mask-fill"] = Field(
        "in-context", description="in-context, rewrite or mask-fill"
    )
    examples: int = Field(3, ge=1, le=20, description="in-context: survivors shown as examples, the parent included")
    temperature: float = Field(0.8, ge=0, le=5, description="sampling temperature")
    top_p: float = Field(0.95, gt=0, le=1, description="nucleus sampling")
    max_tokens: int = Field(48, ge=1, le=4096, description="longest variation, in tokens")
    mask_share: float = Field(0.3, gt=0, le=1, description="mask-fill: share of a text's tokens to refill")
    mask_passes: int = Field(2, ge=1, le=10, description="mask-fill: passes over a text")
    masks_per_pass: int = Field(
        2, ge=1, le=4096, description="mask-fill: tokens of a text refilled in one forward pass; the paper refills 1"
    )


class Expansion(Section):
    """Few-shot generation from the seeds. Costs no privacy."""

    texts: int = Field(1000, ge=1, description="synthetic texts to write")
    examples: int = Field(5, ge=1, le=20, description="seeds shown as examples in each prompt")
    temperature: float = Field(1.0, ge=0, le=5, description="sampling temperature")
    top_p: float = Field(0.95, gt=0, le=1, description="nucleus sampling")
    max_tokens: int = Field(64, ge=1, le=4096, description="longest synthetic text, in tokens")
    format: Literal["jsonl", "parquet"] = Field("jsonl", description="format of the synthetic texts: jsonl or parquet")
    shard_texts: int | None = Field(
        None, ge=1, description="texts per file synthetic/00000, 00001, ...; default: all in one file"
    )


class Screening(Section):
    """Which candidates and synthetic texts are dropped."""

    min_words: int = Field(3, ge=1, description="drop texts with fewer words")
    max_words: int = Field(150, ge=1, description="drop texts with more words")
    identifiers: bool = Field(
        True,
        description="drop texts that hold an e-mail, public IP or personal web address, or a phone, card, bank account "
        "or social security number",
    )
    phone_region: str = Field(
        "US", description="country, as two letters, whose phone numbers are recognized without a country code"
    )
    languages: tuple[str, ...] = Field(
        (), description="drop texts in any language but these, as ISO 639-1 codes such as en; default: keep all"
    )

    @model_validator(mode="after")
    def _check_word_limits(self) -> Self:
        if self.min_words > self.max_words:
            raise ValueError("min_words is above max_words")
        return self

    @model_validator(mode="after")
    def _check_phone_region(self) -> Self:
        if self.phone_region != "US":
            from phonenumbers import SUPPORTED_REGIONS

            if self.phone_region not in SUPPORTED_REGIONS:
                raise ValueError(
                    f"phone_region is {self.phone_region!r}; name a country in two letters, for example GB"
                )
        return self


class Models(Section):
    """Models by Hugging Face name or folder; `embedded` means those installed with the program."""

    generator: str = Field(
        "embedded", description="language model for variations and expansion (embedded: SmolLM2-135M-Instruct)"
    )
    adapter: str | None = Field(
        None, description="folder or Hugging Face name of a LoRA adapter for the generator (transformers, vllm)"
    )
    prompt_format: Literal["base", "chat"] = Field(
        "base", description="base: continue a list of samples; chat: ask through the model's chat template"
    )
    one_paragraph: bool = Field(True, description="end every generated text at its first blank line")
    embedder: str = Field("embedded", description="sentence-transformers model (embedded: all-MiniLM-L6-v2)")
    embedder_tokens: int = Field(
        64, ge=1, le=8192, description="all texts, private or not, are cut to this many tokens before embedding"
    )
    masked: str = Field("roberta-large", description="masked language model (mask-fill)")


class Card(Section):
    """What the dataset card states of the texts beyond what the run knows."""

    license: str = Field(
        "other", description="license of the synthetic texts, as Hugging Face names it, such as cc0-1.0"
    )
    languages: tuple[str, ...] = Field((), description="languages of the texts, as ISO 639-1 codes such as en")


class Speed(Section):
    """What changes speed and nothing else."""

    engine: Literal["transformers", "vllm", "openai", "ray"] = Field(
        "transformers",
        description="transformers, vllm (in process), openai (a server) or ray (vLLM on several GPUs or machines)",
    )
    batch_size: int = Field(32, ge=1, description="prompts per forward pass (transformers)")
    chunk: int | None = Field(
        None,
        ge=1,
        description="prompts handed to the engine at once; the expansion saves after each chunk; default: 128 for "
        "transformers, 2048 for openai, 8192 for vllm and ray",
    )
    embed_batch_tokens: int | None = Field(
        None, ge=1, description="tokens per forward pass of the embedder; default: 256 on a CPU, 16384 elsewhere"
    )
    embed_runtime: Literal["torch", "openvino"] | None = Field(
        None, description="torch or openvino (on a CPU); default: the faster one in a short measurement"
    )
    device: str | None = Field(None, description="cpu, cuda, ...; default: the fastest available")
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="float32, bfloat16 or float16; default: what the device computes fastest"
    )
    memory_share: float = Field(0.3, gt=0, le=1, description="share of the device's memory that vLLM takes (vllm, ray)")
    tensor_parallel: int = Field(1, ge=1, description="GPUs over which vLLM splits the model (vllm, ray)")
    workers: int = Field(1, ge=1, le=10_000, description="copies of the model, each on GPUs of its own (ray)")
    max_length: int | None = Field(None, ge=1, description="longest prompt plus answer, in tokens (vllm, ray)")
    quantization: str | None = Field(
        None,
        description="how the weights are quantized (vllm, ray), for example fp8; default: as the model's folder states",
    )
    base_url: str | None = Field(None, description="address of the OpenAI-compatible server; default: OPENAI_BASE_URL")
    request: dict[str, JsonValue] | None = Field(
        None,
        description="further fields of every request (openai), for example {chat_template_kwargs = {enable_thinking = "
        'false}} or {reasoning_effort = "low"}; no key belongs here',
    )
    concurrency: int = Field(64, ge=1, le=1024, description="requests in flight (openai)")
    request_timeout: float = Field(
        120.0, gt=0, description="a request is repeated after this many seconds and fails after twice as many (openai)"
    )
    price_read: float | None = Field(None, ge=0, description="price of a million tokens read, for the log (openai)")
    price_written: float | None = Field(
        None, ge=0, description="price of a million tokens written, for the log (openai)"
    )

    @field_validator("request")
    @classmethod
    def _check_request(cls, request: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        """Refuse what would change which answers come back, not how they are made."""
        if taken := sorted({"model", "messages", "prompt", "stream", "n", "echo"} & set(request or {})):
            raise ValueError(f"the program itself decides on {taken[0]!r}; leave it out")
        return request

    @property
    def prompts_at_once(self) -> int:
        """`chunk`, or what suits the engine: a scheduler runs half empty at a chunk's end, so its chunks are large."""
        by_engine = {"transformers": 128, "openai": 2048, "vllm": 8192, "ray": 8192}
        return self.chunk or by_engine[self.engine]


class Config(Section):
    """All settings of a run."""

    preset: str = Field("default", description="starting point: " + " or ".join(PRESETS))
    data: Data = Data()
    privacy: Privacy
    initial: Initial = Initial()
    profile: Profile = Profile()
    adapt: Adapt = Adapt()
    evolution: Evolution = Evolution()
    variation: Variation = Variation()
    expansion: Expansion = Expansion()
    screening: Screening = Screening()
    models: Models = Models()
    card: Card = Card()
    speed: Speed = Speed()

    @property
    def prompt_style(self) -> PromptStyle:
        """How all prompts are written; invented examples have no labels, so there are none where texts have."""
        prompts, labels = self.initial.prompts, self.data.labels
        return PromptStyle(
            chat=self.models.prompt_format == "chat",
            one_paragraph=self.models.one_paragraph,
            labels=labels,
            description=prompts[0] if len(prompts) == 1 else None,
            anchors=() if labels else self.initial.examples,
        )

    @property
    def coordinates(self) -> int:
        """Most coordinates of a round's release."""
        if self.privacy.release == "votes":
            return self.evolution.population
        return max(1, len(self.data.labels)) * (self.profile_features + self.profile.clusters + 1)

    @property
    def profile_features(self) -> int:
        """Most features of a profile: the configured number, or as many as clients and epsilon can tell from noise."""
        privacy = self.privacy
        if self.profile.features is not None:
            return self.profile.features
        if privacy.clients is None:
            return _FEATURES
        return round(min(max(5 * privacy.clients * (privacy.epsilon or 1.0), 1000), 12_000))

    @property
    def seed_rounds(self) -> range:
        """The rounds whose survivors become seeds."""
        first, rounds = self.evolution.seeds_from_round, self.privacy.rounds
        return range(3 * rounds // 8 if first is None else first, rounds)

    @property
    def unit(self) -> Unit:
        """The privacy unit."""
        return Unit(self.data.client_column)

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        initial = self.initial
        if initial.texts is None and not initial.prompts and not initial.public_sets:
            raise ValueError(
                "initial: give texts (a public file) or prompts (public sentences that describe the domain), or both; "
                "or public_sets, from which FreD chooses the nearest"
            )
        if initial.examples and not initial.prompts:
            raise ValueError(
                "initial: examples are shown with prompts; give prompts too, a sentence that describes the domain"
            )
        if initial.texts is not None and initial.public_sets:
            raise ValueError("initial: give either texts or public_sets, from which FreD chooses the texts")
        if (self.evolution.seeds_from_round or 0) >= self.privacy.rounds:
            raise ValueError(
                f"evolution.seeds_from_round is {self.evolution.seeds_from_round}, but the rounds are numbered 0 to "
                f"{self.privacy.rounds - 1}"
            )
        if self.data.labels and self.evolution.population < len(self.data.labels):
            raise ValueError("evolution.population must be at least the number of data.labels")
        return self
