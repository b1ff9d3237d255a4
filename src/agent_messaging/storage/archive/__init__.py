"""What an archive holds of a store, and in what form: its tables, their values, and the state of an open row. Pure.

A backend reads rows as they are stored ("raw") and writes them again; `Reader` makes rows of the archive of them, which
are the same whatever the backend, and `Writer` makes raw rows of those. Messages are named by ids: `seq` is a store's.
"""

from .rows import Comparison as Comparison
from .rows import Reader as Reader
from .rows import Writer as Writer
from .tables import BODIES as BODIES
from .tables import LEFT_OUT as LEFT_OUT
from .tables import SHARED as SHARED
from .tables import TABLES as TABLES
from .tables import TAKEN as TAKEN
from .tables import WITHOUT_ORGANIZATION as WITHOUT_ORGANIZATION
from .tables import Form as Form
from .values import shift_of as shift_of
from .values import to_line as to_line
