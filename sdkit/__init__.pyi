from . import plots as plots, pocket as pocket
from .attention.capture import capture_attention as capture_attention
from .errors import Cancelled as Cancelled, SdkitError as SdkitError
from .experiments.ablation import ablate as ablate
from .experiments.editing import edit_attention as edit_attention
from .experiments.forking import fork as fork
from .experiments.inversion import invert as invert
from .experiments.pushing import push_attention as push_attention
from .generation import generate as generate, variations as variations
from .memory.plan import Plan as Plan
from .models.load import load as load
from .models.planning import plan as plan
from .result import Result as Result, load_result as load_result
from .settings import Settings as Settings
from .sweeps.axes import (
    PromptMatrix as PromptMatrix,
    SearchReplace as SearchReplace,
    Wildcards as Wildcards,
)
from .sweeps.sweeping import Sweep as Sweep, sweep as sweep
from .traces.tracing import record_trace as record_trace, trace_cost as trace_cost
from .walks.interpolation import interpolate as interpolate, interpolate_grid as interpolate_grid
from .walks.walk import Walk as Walk

__version__: str
