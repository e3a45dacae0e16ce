"""The mathematics: tensors in, tensors out. Knows no network, no Lightning, no files."""

from dmlik_pl.flow.bound import Bound, elbo
from dmlik_pl.flow.divergence import NFE, Divergence, Exact, Hutchinson
from dmlik_pl.flow.dynamics import SolverError
from dmlik_pl.flow.information import Information, pointwise_information
from dmlik_pl.flow.integral import TraceIntegral
from dmlik_pl.flow.likelihood import (
    Trajectory,
    decode,
    encode,
    log_likelihood,
    reconstruct,
    trajectory,
)
from dmlik_pl.flow.noising import Draws, Noising
from dmlik_pl.flow.prior import GaussianPrior, Prior
from dmlik_pl.flow.probability_flow import Condition, Network, NetworkTime, Prediction, ProbabilityFlow
from dmlik_pl.flow.probes import Purpose, draw, noise
from dmlik_pl.flow.reference import Clock, TorchDiffEq
from dmlik_pl.flow.result import LogLikelihood, bits_per_dim
from dmlik_pl.flow.schedule import (
    VE,
    Cosine,
    DiscreteVP,
    Interpolation,
    LinearVP,
    NoiseLevel,
    RectifiedFlow,
    Schedule,
)
from dmlik_pl.flow.solvers import Multistep, Solution, Solver
from dmlik_pl.flow.target import Rivals, Target

__all__ = [
    "NFE",
    "VE",
    "Bound",
    "Clock",
    "Condition",
    "Cosine",
    "DiscreteVP",
    "Divergence",
    "Draws",
    "Exact",
    "GaussianPrior",
    "Hutchinson",
    "Information",
    "Interpolation",
    "LinearVP",
    "LogLikelihood",
    "Multistep",
    "Network",
    "NetworkTime",
    "NoiseLevel",
    "Noising",
    "Prediction",
    "Prior",
    "ProbabilityFlow",
    "Purpose",
    "RectifiedFlow",
    "Rivals",
    "Schedule",
    "Solution",
    "Solver",
    "SolverError",
    "Target",
    "TorchDiffEq",
    "TraceIntegral",
    "Trajectory",
    "bits_per_dim",
    "decode",
    "draw",
    "elbo",
    "encode",
    "log_likelihood",
    "noise",
    "pointwise_information",
    "reconstruct",
    "trajectory",
]
