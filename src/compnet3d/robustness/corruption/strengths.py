"""How strong each corruption is, in severities 1 to 5: the numbers of ImageNet-C."""

from __future__ import annotations


class Strengths:
    """One entry for each severity; several numbers in brackets where a corruption takes several."""

    GAUSSIAN_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)  # standard deviation, of 1
    SHOT_NOISE = (60.0, 25.0, 12.0, 5.0, 3.0)  # photons that white is made of
    IMPULSE_NOISE = (0.03, 0.06, 0.09, 0.17, 0.27)  # share of the values that are replaced
    SPECKLE_NOISE = (0.15, 0.2, 0.35, 0.45, 0.6)  # standard deviation, relative to the value

    GAUSSIAN_BLUR = (1.0, 2.0, 3.0, 4.0, 6.0)  # standard deviation in pixels
    # radius of the disk, smoothing of its edge, in pixels
    DEFOCUS_BLUR = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))
    # standard deviation of the two blurs, longest way of a pixel, rounds
    GLASS_BLUR = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
    MOTION_BLUR = ((10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0))  # half the path, standard deviation
    # last zoom factor (exclusive) and step; numpy.arange decides, as in the published code, whether it is reached
    ZOOM_BLUR = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))

    FOG = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))  # thickness, decay of the cloud's detail
    FROST = ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))  # weight of the image, of the ice
    # mean and standard deviation of the flakes' brightness, their size, the least brightness that is seen, half the
    # length of their way and the standard deviation along it in pixels, what is left of the image's own colours
    SNOW = (
        (0.1, 0.3, 3.0, 0.5, 10, 4.0, 0.8),
        (0.2, 0.3, 2.0, 0.5, 12, 4.0, 0.7),
        (0.55, 0.3, 4.0, 0.9, 12, 8.0, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8.0, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12.0, 0.55),
    )

    BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)  # added to the value of HSV, of 1
    CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)  # what is left of the distance from the mean
    SATURATE = ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2))  # factor of the saturation, what is added
    JPEG_COMPRESSION = (25, 18, 15, 10, 7)  # quality
    PIXELATE = (0.6, 0.5, 0.4, 0.3, 0.25)  # size of the small image
    ELASTIC_TRANSFORM = (12.5, 16.25, 21.25, 25.0, 30.0)  # factor of the smoothed displacements
    # mean, standard deviation and smoothing (pixels) of the liquid's thickness, the least thickness that is seen, and
    # the strength of water (severities 1 to 3) or the smoothing of mud
    SPATTER = (
        (0.65, 0.3, 4.0, 0.69, 0.6),
        (0.65, 0.3, 3.0, 0.68, 0.6),
        (0.65, 0.3, 2.0, 0.68, 0.5),
        (0.65, 0.3, 1.0, 0.65, 1.5),
        (0.67, 0.4, 1.0, 0.65, 1.5),
    )
