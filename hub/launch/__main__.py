"""`python -m hub.launch run …`, the same as `armillary run …`."""

import sys

from hub.launch import main

if __name__ == "__main__":
    sys.exit(main())
