"""Compiler options of our own code: warnings are errors, in g++ and clang."""

TDPD_COPTS = [
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wnon-virtual-dtor",
    "-Wvla",
    # Our structs have default member initializers: what is left out is meant.
    "-Wno-missing-field-initializers",
]
