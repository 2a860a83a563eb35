"""Values that make no sense as most settings, to try rules with."""

# As gin reads them.
VALUES = (
    *("None", "True", "False", "'False'", "''", "' '", "'x'", "'1'", "b'x'", "'\\x00'"),
    *("'\\x1b[31m'", "'\\ud800'", "'a\\nb'", "...", "x", "", "inf", "-inf", "nan"),
    *("0", "-1", "1", "2", "1.5", "-0.5", "1e-30", "1e-320", "-0.0", "1j", "2**3"),
    *("1e12", "1e30", "1e308", "1e999", "-1e999", "1" + "0" * 20, "1" + "0" * 400),
    *("9223372036854775807", "9223372036854775808", "0x" + "f" * 5000, "9" * 5000),
    *("[]", "()", "{}", "(0.5, 0.1)", "(0, 0)", "(0.5, 0.5)", "('a', 'b')", "[[1]]"),
    *("{'a': 1}", "{1: {}}", "{1: 1}", "{None: None}", "{(1,): 1}", "{[1]: 1}"),
    *("(0.1, 1e999)", "(1e999, 1e999)", "[1, None]", "[{}]", "[" * 200 + "]" * 200),
    *("@schedule.cosine", "@schedule.cosine()", "@randaugment.rand_augment"),
    *(
        "@experiment.Experiment",
        "@experiment.Experiment()",
        "@variants.Variant",
        "@variants.StageSpec()",
        "@nobody.x",
    ),
    *("%undefined", "%itself", "@gin.macro", "@gin.macro()", "@a/gin.singleton()"),
    *("%gin.REQUIRED", "[%gin.REQUIRED]", "{%a_list: 1}", "'it's'", "'open", "(1", "%"),
)

# What no number, no list and no text is, in a setting that a function of ours has.
NOTHING = ([[1]], {"a": {"b": [1]}}, object(), b"x", 1j, "\0", float("nan"))
TOO_LARGE = (10**30, 10**400, 1e300, float("inf"), -(10**30), -1e300, float("-inf"))
