from runner.api import run as run
from runner.api import sweep as sweep
from runner.api import table as table
