"""Pictures of feature maps that a person can read, drawn with Pillow alone."""

from featurelens.maps.pages import INPUT, draw_layer, draw_overview

__all__ = ["INPUT", "draw_layer", "draw_overview"]
