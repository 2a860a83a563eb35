"""StableHLO written by hand."""

MATMUL = """\
module @matmul {
  func.func @main(%x: tensor<512x1024xbf16>, %w: tensor<1024x2048xbf16>)
      -> tensor<512x2048xf32> {
    %0 = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0]
      : (tensor<512x1024xbf16>, tensor<1024x2048xbf16>) -> tensor<512x2048xf32>
      loc("dense/MatMul"("layers.py":12:3))
    %1 = stablehlo.tanh %0 : tensor<512x2048xf32> loc("dense/Tanh")
    return %1 : tensor<512x2048xf32>
  }
}
"""

_SUM = """({
      ^bb0(%a: tensor<f32>, %b: tensor<f32>):
        %c = stablehlo.add %a, %b : tensor<f32>
        stablehlo.return %c : tensor<f32>
    })"""

# Two, of all eight replicas and of four each.
ALL_REDUCE = f"""\
module @all_reduce {{
  func.func @main(%x: tensor<1024x1024xf32>, %y: tensor<128xf32>)
      -> (tensor<1024x1024xf32>, tensor<128xf32>) {{
    %s = stablehlo.tanh %x : tensor<1024x1024xf32>
    %0 = "stablehlo.all_reduce"(%s) <{{
      replica_groups = dense<[[0, 1, 2, 3, 4, 5, 6, 7]]> : tensor<1x8xi64>,
      channel_handle = #stablehlo.channel_handle<handle = 1, type = 0>}}> {_SUM}
      : (tensor<1024x1024xf32>) -> tensor<1024x1024xf32>
    %1 = "stablehlo.all_reduce"(%y) <{{
      replica_groups = dense<[[0, 1, 2, 3], [4, 5, 6, 7]]> : tensor<2x4xi64>,
      channel_handle = #stablehlo.channel_handle<handle = 2, type = 0>}}> {_SUM}
      : (tensor<128xf32>) -> tensor<128xf32>
    return %0, %1 : tensor<1024x1024xf32>, tensor<128xf32>
  }}
}}
"""

# 16 GiB in, 16 GiB out.
TOO_LARGE = """\
module @too_large {
  func.func @main(%x: tensor<65536x65536xf32>) -> tensor<65536x65536xf32> {
    %0 = stablehlo.tanh %x : tensor<65536x65536xf32> loc("head/Tanh"("heads.py":7:1))
    return %0 : tensor<65536x65536xf32>
  }
}
"""

CUSTOM_CALL = """\
module @custom_call {
  func.func @main(%x: tensor<8x128xf32>) -> tensor<8x128xf32> {
    %0 = stablehlo.custom_call @tf.Frobnicate(%x)
      : (tensor<8x128xf32>) -> tensor<8x128xf32> loc("stem/Frob"("layers.py":33:1))
    return %0 : tensor<8x128xf32>
  }
}
"""

# As TensorFlow leaves them: a copy that is erased, and an operation of another kind.
COPY = """\
module @copy {
  func.func @main(%x: tensor<8x128xf32>) -> tensor<8x128xf32> {
    %0 = "mhlo.copy"(%x) : (tensor<8x128xf32>) -> tensor<8x128xf32>
    %1 = stablehlo.tanh %0 : tensor<8x128xf32>
    %2 = "mhlo.copy"(%1) : (tensor<8x128xf32>) -> tensor<8x128xf32>
    return %2 : tensor<8x128xf32>
  }
}
"""
FOREIGN = COPY.replace(
    "stablehlo.tanh %0 : tensor<8x128xf32>",
    '"tf.Sinh"(%0) : (tensor<8x128xf32>) -> tensor<8x128xf32> loc("stem/Sinh")',
)

DYNAMIC = """\
module @dynamic {
  func.func @main(%x: tensor<?x128xf32>) -> tensor<?x128xf32> {
    %0 = stablehlo.tanh %x : tensor<?x128xf32> loc("stem/Tanh"("layers.py":33:1))
    return %0 : tensor<?x128xf32>
  }
}
"""

# The number of rows is not known, but that it is 8 at most.
BOUNDED = """\
module @bounded {
  func.func @main(%x: tensor<8x128xf32>, %n: tensor<i32>) -> tensor<128xf32> {
    %0 = stablehlo.set_dimension_size %x, %n, dim = 0
      : (tensor<8x128xf32>, tensor<i32>)
      -> tensor<?x128xf32, #stablehlo.bounds<8, ?>>
    %zero = stablehlo.constant dense<0.0> : tensor<f32>
    %1 = stablehlo.reduce(%0 init: %zero) applies stablehlo.add across dimensions = [0]
      : (tensor<?x128xf32, #stablehlo.bounds<8, ?>>, tensor<f32>) -> tensor<128xf32>
    return %1 : tensor<128xf32>
  }
}
"""

BAD_TYPE = MATMUL.replace("1024x2048xbf16", "1000x2048xbf16")


def largest_argument(mib):
    """Reads an argument of so many MiB, and gives back 4 KiB of it."""
    whole = f"tensor<{mib}x1024x256xf32>"
    return f"""\
module @largest_argument {{
  func.func @main(%x: {whole}) -> tensor<1x8x128xf32> {{
    %0 = stablehlo.slice %x [0:1, 0:8, 0:128] : ({whole}) -> tensor<1x8x128xf32>
    return %0 : tensor<1x8x128xf32>
  }}
}}
"""


def loop(rounds):
    """Multiplies by a matrix so many times."""
    square = "tensor<512x512xbf16>"
    return f"""\
module @loop {{
  func.func @main(%x: {square}, %w: {square}) -> {square} {{
    %zero = stablehlo.constant dense<0> : tensor<i32>
    %r:3 = stablehlo.while(%i = %zero, %a = %x, %b = %w)
      : tensor<i32>, {square}, {square}
    cond {{
      %n = stablehlo.constant dense<{rounds}> : tensor<i32>
      %c = stablehlo.compare LT, %i, %n : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %c : tensor<i1>
    }} do {{
      %one = stablehlo.constant dense<1> : tensor<i32>
      %j = stablehlo.add %i, %one : tensor<i32>
      %d = stablehlo.dot_general %a, %b, contracting_dims = [1] x [0]
        : ({square}, {square}) -> {square}
      %t = stablehlo.tanh %d : {square}
      stablehlo.return %j, %t, %b : tensor<i32>, {square}, {square}
    }}
    return %r#1 : {square}
  }}
}}
"""


def convolutions(batch, layers):
    """Convolutions in a row, and their products backwards; many take long."""
    data, kernel = f"tensor<{batch}x112x112x128xbf16>", "tensor<3x3x128x128xbf16>"

    def convolution(result, operand, name):
        return f"""\
    {result} = stablehlo.convolution({operand}, %w)
      dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f],
      window = {{stride = [1, 1], pad = [[1, 1], [1, 1]]}}
      {{batch_group_count = 1 : i64, feature_group_count = 1 : i64}}
      : ({data}, {kernel}) -> {data} loc("{name}")
"""

    there, back, last = "", "", "%x"
    for i in range(layers):
        there += convolution(f"%y{i}", last, f"block{i}/Conv2D")
        last = f"%y{i}"
    for i in reversed(range(layers)):
        back += convolution(f"%g{i}", last, f"back{i}/Conv2D")
        back += f"    %m{i} = stablehlo.multiply %g{i}, %y{i} : {data}\n"
        last = f"%m{i}"
    return f"""\
module @convolutions {{
  func.func @main(%x: {data}, %w: {kernel}) -> {data} {{
{there}{back}    return {last} : {data}
  }}
}}
"""
