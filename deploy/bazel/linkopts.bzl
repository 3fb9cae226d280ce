"""How shared libraries of the system are linked."""

def as_needed(libraries):
    """Links `libraries` as far as a binary uses them.

    Args:
      libraries: names without "lib" and ".so".

    Returns:
      A list of linkopts.
    """
    return (
        ["-Wl,--push-state,--as-needed"] +
        ["-l" + library for library in libraries] +
        ["-Wl,--pop-state"]
    )
