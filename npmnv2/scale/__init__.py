"""A table of any number of photos, made by many processes on one machine or by a Dask cluster.

The design in ten lines:

1. The output is a folder, also in an object store: ``part-000000.parquet``, … and ``_manifest``, which readers skip.
2. The manifest holds all that a worker needs: the settings, the weights, and the names of the photos of every part.
3. A task is therefore a number. It reads names and photos (fsspec), predicts, and writes one part (PyArrow).
4. A part is there as a whole or not at all: written to the side and renamed, or put into an object store at once.
5. The parts that are there are what is done. A run that is started again computes the others, and nothing else is kept.
6. The settings and the recorded names make the table: with other settings, or other photos, a run is refused.
7. Before its first part a worker computes a fingerprint; libraries that would give other bits are refused.
8. A photo that cannot be used is a row with its error. One that cannot be *read* is tried again, then stops the run.
9. Names are listed by a thread ahead of the work. Parts are submitted in a window, so memory does not grow with photos.
10. All state is in the output: workers, the scheduler and this process may end at any moment.
"""

from npmnv2.scale.collections import map as map
from npmnv2.scale.run import Summary as Summary
from npmnv2.scale.run import write_table as write_table

__all__ = ["Summary", "map", "write_table"]
