"""The columns of the records of competing prompts."""

from dmlik_pl.records.schema import LIKELIHOOD, Column, Schema

__all__ = ["SCHEMA"]

_SPREAD = "margin_standard_error"
_DECISION = (
    ("predicted", "text", "the prompt that the {} puts first", ""),
    ("correct", "flag", "whether that is the true one, by the {}", ""),
    ("scores", "text", "score of each prompt by the {}, a JSON object; null where there is none", "nats"),
    ("decided", "flag", "whether the errors of the {} support its decision", ""),
    ("margin", "number", "how far the best prompt is ahead of the second, by the {}", "nats"),
    (_SPREAD, "number", "standard error of that margin over probes or draws", "nats"),
    ("nfe", "number", "network evaluations per decision by the {}, all prompts together", ""),
)
_METHODS = {
    "": "exact likelihood",
    "screened_": "likelihood among the prompts that the bound kept",
    "elbo_": "evidence lower bound",
    "pmi_": "pointwise mutual information",
    "clip_": "CLIP score",
}

SCHEMA = Schema(
    columns=(
        Column("attribute", "text", "what the prompts differ in, such as the colour"),
        Column("truth", "text", "the true value of the attribute"),
        Column("candidates", "text", "the values that compete, a JSON list"),
        Column("reconstructed", "flag", "whether the image went through the flow to noise and back first"),
        *(
            Column(f"{prefix}{name}", kind, meaning.format(words), unit)  # type: ignore[arg-type]
            for prefix, words in _METHODS.items()
            for name, kind, meaning, unit in _DECISION
        ),
        Column("scores_standard_error", "text", "standard errors of the scores over probes, a JSON object", "nats"),
        Column("scores_probe_variance", "text", "variances of the scores over probes, not widened, JSON", "nats²"),
        Column("true_margin", "number", "how far the true prompt is ahead of its best rival", "nats"),
        Column("true_margin_standard_error", "number", "standard error of `true_margin` over probes", "nats"),
        Column("null_log_p", "number", "log-likelihood under the empty prompt, without guidance", "nats"),
        Column("null_log_p_standard_error", "number", "standard error of `null_log_p` over probes", "nats"),
        Column("null_margin", "number", "how far the true prompt is ahead of the empty one", "nats"),
        Column("null_margin_standard_error", "number", "standard error of `null_margin` over probes", "nats"),
        Column("null_margin_probe_variance", "number", "variance of `null_margin` over probes, not widened", "nats²"),
        Column(
            "null_margin_discretisation",
            "number",
            "the grid's error of `null_margin`, as of two independent ones",
            "nats",
        ),
        Column("screened_kept", "number", "prompts that got a likelihood after screening"),
        Column("screened_checked", "flag", "whether all prompts got one as well"),
        Column("elbo_levels", "numbers", "log-SNR of the bound's draws"),
        Column("elbo_level_errors", "text", "denoising errors of each prompt at these draws, a JSON object"),
        Column("elbo_eliminated", "text", "draws after which each prompt was given up, a JSON object"),
        Column(
            "pmi_orthogonal_scores", "text", "mutual information by the orthogonal estimator, a JSON object", "nats"
        ),
        *LIKELIHOOD,
    ),
    key=("guidance", "reconstructed", "attribute"),
    means=("guidance", "reconstructed"),
)
