from . import plots as plots, pocket as pocket
from .attention.ablation import ablate as ablate
from .attention.capture import capture_attention as capture_attention
from .attention.editing import edit_attention as edit_attention
from .errors import Cancelled as Cancelled, SdkitError as SdkitError
from .generation import generate as generate, variations as variations
from .memory import Plan as Plan, plan as plan
from .models import load as load
from .result import Result as Result, load_result as load_result
from .settings import Settings as Settings
from .sweeps.axes import PromptMatrix as PromptMatrix, SearchReplace as SearchReplace, Wildcards as Wildcards
from .sweeps.sweeping import Sweep as Sweep, sweep as sweep
from .traces.forking import fork as fork
from .traces.tracing import record_trace as record_trace, trace_cost as trace_cost
from .walks.interpolation import interpolate as interpolate, interpolate_grid as interpolate_grid
from .walks.walk import Walk as Walk

__version__: str
