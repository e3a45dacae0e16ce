"""The columns of the records of a sweep over time and settings."""

from dmlik_pl.records.schema import LIKELIHOOD, Column, Schema, with_errors

__all__ = ["SCHEMA"]

SCHEMA = Schema(
    columns=(
        *LIKELIHOOD,
        Column("prompt", "text", "the sample's prompt"),
        Column("size", "number", "pixels along each side of the image"),
        Column("reconstructed", "flag", "whether the image went through the flow to noise and back first"),
        Column("stage", "text", "`data`, or `sample`: drawn from noise under the same prompt"),
        Column("time", "number", "time t of a sample; 1 is noise, 0 data"),
        Column("sigma", "number", "noise-to-signal ratio at that time"),
        *with_errors("bpd_marginal", "bits per dimension of x_t at its own time, along its own path"),
        *with_errors("bpd_pixels", "bits per dimension after decoding to an 8-bit image and encoding it again"),
        Column("clip", "number", "CLIP score of the image and its prompt", "100 × cosine"),
        Column("feature", "numbers", "features of the image, for the Fréchet and kernel distances"),
        Column("round_trip", "number", "root mean square change by the reconstruction, over that of x_t"),
        Column("round_trip_pixels", "number", "root mean square change of the decoded image", "steps of 255"),
    ),
    key=("guidance", "size", "reconstructed", "stage", "time"),
    means=("stage", "time", "guidance", "size", "reconstructed"),
    attributes=True,
)
