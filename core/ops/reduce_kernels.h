// The vectorised inner loops of the reductions (reduce.isa.cpp). Internal.
// T is double, float, bfloat16 or float16; 16-bit values are widened to float as they are read.
#pragma once

#include <cstdint>

#include <tendril/core/cpu/isa.h>
#include <tendril/core/dtype.h>

namespace tendril::cpu {

enum class Term : uint8_t { value, absolute, square };    // x, |x|, (x - shift)^2
enum class Extreme : uint8_t { max, min, max_absolute };  // of x or |x|; NaN wins

}  // namespace tendril::cpu

// The sum of term(x[i]), i < n. Eight vectors are added as a tree in T's arithmetic and the tree's
// sum is added in double: three roundings to float whatever n is.
TENDRIL_DECLARE_ISA(template <class T>
                    double sum_row(const T* x, int64_t n, Term term, compute_t<T> shift))

// sums[c] += the sum of term(x[r * stride + c]) over r < rows, for c < columns; `shift` holds one
// value per column or is null.
TENDRIL_DECLARE_ISA(template <class T> void sum_columns(const T* x, int64_t stride, int64_t rows,
                                                        int64_t columns, Term term,
                                                        const compute_t<T>* shift, double* sums))

// The extreme of `start` and x[i], i < n.
TENDRIL_DECLARE_ISA(template <class T> compute_t<T> extreme_row(const T* x, int64_t n, Extreme kind,
                                                                compute_t<T> start))

// best[c] becomes the extreme of itself and column c.
TENDRIL_DECLARE_ISA(template <class T> void extreme_columns(const T* x, int64_t stride,
                                                            int64_t rows, int64_t columns,
                                                            Extreme kind, compute_t<T>* best))

// The sum of exp(x[i] - shift), i < n.
TENDRIL_DECLARE_ISA(template <class T>
                    double exp_sum_row(const T* x, int64_t n, compute_t<T> shift))
