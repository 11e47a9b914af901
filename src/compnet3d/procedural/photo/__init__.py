"""Images in the style "photo": what a model needs that is trained on renderings and meets photographs.

Domain randomisation (Tobin et al., IROS 2017; Tremblay et al., CVPRW 2018) with photographs as backgrounds and as the
light around the object.
"""
