"""Fuzzers: see CONTRIBUTING.md for how to write and run them."""

load(":copts.bzl", "TDPD_COPTS")

def tdpd_fuzz_test(name, srcs, deps, corpus = "", size = "small", **kwargs):
    """A fuzzer, and a test that replays its corpus.

    The fuzzer, NAME, is built with --config=fuzz only and by deploy/dev.sh fuzz.
    The test, NAME_test, is a test like all others: it gives each file of the
    corpus to the same code, built as everything else is.

    Args:
      name: of the fuzzer; it ends in "_fuzz".
      srcs: they define LLVMFuzzerTestOneInput() and no main().
      deps: of both.
      corpus: folder of this package with a file for each input; if empty
        testdata/NAME.
      size: of the test.
      **kwargs: passed on to both.
    """
    folder = corpus or "testdata/" + name
    inputs = native.glob([folder + "/**"])
    native.cc_binary(
        name = name,
        testonly = True,
        srcs = srcs,
        copts = TDPD_COPTS,
        # deploy/dev.sh asks for its labels to find the corpus.
        data = inputs,
        # Its main(). The rest of what is linked has none.
        linkopts = ["-fsanitize=fuzzer"],
        tags = ["fuzz", "manual"],
        deps = deps,
        **kwargs
    )
    native.cc_test(
        name = name + "_test",
        size = size,
        srcs = srcs,
        args = [native.package_name() + "/" + folder],
        copts = TDPD_COPTS,
        data = inputs,
        deps = deps + ["//deploy/bazel:fuzz_replay"],
        **kwargs
    )
