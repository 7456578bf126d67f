"""shared_pairs: centroid, with one selection for each pair of layers."""

from vortex_attention.flows.centroid import Centroid


class SharedPairs(Centroid):
    """The pages by centroid, chosen in every second layer and attended in the next one too: heads of neighbouring layers look at much
    the same tokens (TidalDecode, Yang et al., 2024)."""

    reuse = 2
