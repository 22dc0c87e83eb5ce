from .constants import ONE


def scaled(values, factor):
    return values * factor * ONE
