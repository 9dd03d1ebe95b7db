"""The HTTP shell: servers, the exchange, upstreams, admin plane, command line and wiring."""

import os

# Else OpenBLAS splits the scan of a few hundred vectors among threads of its own, which take cores from the
# encoder and cost the scan more than they bring. Read when numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
