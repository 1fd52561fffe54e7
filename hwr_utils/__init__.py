"""The shared package of the study: data, models, training, records.

Notebooks are the argument, this is the machinery.
"""

__version__ = "0.1.0"
