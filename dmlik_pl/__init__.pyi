from dmlik_pl.flow import Condition as Condition
from dmlik_pl.flow import Exact as Exact
from dmlik_pl.flow import Hutchinson as Hutchinson
from dmlik_pl.flow import Multistep as Multistep
from dmlik_pl.flow import ProbabilityFlow as ProbabilityFlow
from dmlik_pl.flow import TorchDiffEq as TorchDiffEq
from dmlik_pl.models import Likelihoods as Likelihoods
from dmlik_pl.models import PipelineModel as PipelineModel
from dmlik_pl.models import load as load
from dmlik_pl.models import log_likelihood as log_likelihood

__version__: str
