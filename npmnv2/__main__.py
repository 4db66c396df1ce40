"""``python -m npmnv2``: the command line."""

import sys

from npmnv2.cli.main import main

sys.exit(main())
