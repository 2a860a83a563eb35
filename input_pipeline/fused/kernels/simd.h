// What the loops over pixels are compiled for.
#ifndef INPUT_PIPELINE_FUSED_SIMD_H_
#define INPUT_PIPELINE_FUSED_SIMD_H_

// Twice: for a CPU with AVX2, and for one with no more than TensorFlow itself needs, AVX.
// The loader takes one. No product is fused with a sum anywhere (-ffp-contract=off), as
// in TensorFlow's wheels: the last bit decides on which level a pixel ends.
#if defined(__SANITIZE_ADDRESS__)
#define FUSED_LOOP  // the sanitizer is not there yet when the loader chooses
#else
#define FUSED_LOOP __attribute__((target_clones("arch=x86-64-v3", "default")))
#endif

#endif  // INPUT_PIPELINE_FUSED_SIMD_H_
