"""Adapt a gaze-redirecting face model to one person, and measure how much it improved.

The names below are the Python API, see `vaegaze.api`. Importing the package imports no torch until one of them is used.
"""

API = ("load_model", "read_person", "finetune", "evaluate", "redirect", "Redirector", "save_model")

__all__ = list(API)


def __getattr__(name: str):
    if name not in API:
        raise AttributeError(f"module 'vaegaze' has no attribute {name!r}")
    from vaegaze import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *API})
