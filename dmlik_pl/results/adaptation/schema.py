"""The columns of the records of an adaptation."""

from dmlik_pl.records.schema import LIKELIHOOD, Column, Schema, with_errors
from dmlik_pl.results.heard import HEARING, UTTERANCE

__all__ = ["SCHEMA"]

SCHEMA = Schema(
    columns=(
        *LIKELIHOOD,
        *UTTERANCE,
        *HEARING,
        Column("mean", "text", "the blur that makes the mean μ of the recording's mel"),
        Column("blur_kernel", "number", "its size", "frames and bands"),
        Column("blur_sigma", "number", "its width", "frames and bands"),
        Column("stage", "text", "`data` (the recording), `vocoded` (its own mel), `adapted`, or `round trip`"),
        Column("forward", "text", "way from the recording to x_T: a solver, `stochastic`, `prior` or `none`"),
        Column("reverse", "text", "way back: a solver, or `none`"),
        Column("forward_solver", "text", "the solver on the way forward and its settings"),
        Column("reverse_solver", "text", "the solver on the way back and its settings"),
        Column("forward_speaker", "number", "the model's speaker on the way forward"),
        Column("reverse_speaker", "number", "the model's speaker on the way back"),
        *with_errors("bpd_own_mean", "bits per dimension of a mel under its own blur"),
        *with_errors("bpd_change", "change of `bpd` from the recording's, on the same probes"),
        Column("latent_rms", "number", "root mean square of x_T - μ; 1 for the model's own data"),
        Column("change_rms", "number", "root mean square change of the mel over its standard deviation"),
        Column("change_max", "number", "largest change of any value of the mel", "nats"),
        Column("source_similarity", "number", "cosine of the voice to the recording's"),
        Column("reference", "text", "the recordings that voices are compared with"),
        Column("reference_size", "number", "how many there are"),
        Column("reference_similarity", "number", "mean cosine of these against one another"),
    ),
    key=("mean", "stage", "forward", "reverse"),
    means=("stage", "mean", "forward", "reverse"),
    attributes=True,
)
