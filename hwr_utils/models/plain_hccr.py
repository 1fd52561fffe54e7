"""K. Kim's network without what gives it its name: where his has an Inception module, this has one plain convolution.

The study made it to ask what the Inception modules are worth (book/plan.md, E4). Its 3x3 convolutions grow from one to
the next as the modules do, and are as wide as gives the two networks the same number of parameters, to within one per
cent, when they tell 64 classes apart.
"""

from functools import partial

from hwr_utils.models.inception_hccr import ConvUnit, InceptionHCCR


class PlainHCCR(InceptionHCCR):
    """A stem of two convolutions, four more, global average pooling, a linear classifier; see `InceptionHCCR`."""

    module = partial(ConvUnit, kernel=3)
    widths = ((66,), (134,), (184,), (282,))
