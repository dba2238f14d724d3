"""Pictures of feature maps that a person can read, drawn with Pillow alone."""

from featurelens.maps.pages import draw_layer, draw_overview

__all__ = ["draw_layer", "draw_overview"]
