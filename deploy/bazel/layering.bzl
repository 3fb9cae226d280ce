"""Tests of who may know whom: see the picture in README.md."""

def layer_test(name, binary, layer, forbidden):
    """Fails if something of `layer` that `binary` links depends on `forbidden`.

    Args:
      name: of the test.
      binary: label of the binary whose dependencies are looked at.
      layer: regular expression of labels.
      forbidden: regular expression of labels.
    """
    found = name + "_found"
    native.genquery(
        name = found,
        testonly = True,
        expression = "filter('{}', deps(filter('{}', deps({}))))".format(
            forbidden,
            layer,
            binary,
        ),
        scope = [binary],
    )
    native.sh_test(
        name = name,
        size = "small",
        srcs = ["//deploy/checks:empty_test.sh"],
        args = ["$(location :{})".format(found)],
        data = [":" + found],
    )
