#include <tendril/tendril.h>

#include "op_cases.h"

namespace tendril::testing {
namespace {

OpCase attention_case(const std::string& label, const Shape& q, const Shape& k,
                      const AttentionOptions& options) {
  return {Op::scaled_dot_product_attention,
          "attention " + label,
          {{q}, {k}, {k}},
          [options](const std::vector<Tensor>& in) {
            manual_seed(5);  // the same dropout mask on every call
            AttentionOptions local = options;
            if (local.mask.defined()) local.mask = to(local.mask, in[0].device());
            return scaled_dot_product_attention(in[0], in[1], in[2], local);
          },
          4.0};
}

}  // namespace

std::vector<OpCase> attention_cases() {
  const Tensor boolean =
      Tensor::from<bool>({true, false, true, true, false, false, false, true, true}, {3, 3});
  const Tensor additive =
      Tensor::from<double>({0.5, -0.3, 0.1, 0.2, 0.0, -1.0, 0.7, 0.4, -0.2}, {1, 1, 3, 3});
  const Tensor starts = Tensor::from<int32_t>({0, 3, 4, 6}, {4}),
               key_starts = Tensor::from<int32_t>({0, 1, 4, 5}, {4});
  return {
      attention_case("full", {2, 2, 3, 4}, {2, 2, 5, 4}, {}),
      attention_case("causal", {1, 2, 4, 3}, {1, 2, 4, 3}, {.causal = true}),
      attention_case("causal, fewer queries than keys", {1, 1, 2, 3}, {1, 1, 5, 3},
                     {.causal = true}),
      attention_case("causal, more queries than keys", {1, 1, 5, 3}, {1, 1, 2, 3},
                     {.causal = true}),
      attention_case("window", {1, 1, 6, 2}, {1, 1, 6, 2}, {.causal = true, .window = 2}),
      attention_case("grouped", {1, 4, 3, 2}, {1, 2, 3, 2}, {.causal = true}),
      attention_case("boolean mask", {2, 1, 3, 2}, {2, 1, 3, 2}, {.mask = boolean}),
      attention_case("additive mask", {1, 2, 3, 2}, {1, 2, 3, 2}, {.mask = additive}),
      attention_case("scale", {1, 1, 3, 2}, {1, 1, 3, 2}, {.scale = 0.3}),
      attention_case("dropout", {1, 2, 4, 2}, {1, 2, 4, 2}, {.dropout = 0.4}),
      attention_case("several key blocks", {1, 1, 3, 2}, {1, 1, 270, 2}, {}),
      attention_case("packed", {1, 2, 6, 2}, {1, 2, 6, 2}, {.causal = true, .q_starts = starts}),
      attention_case("packed, other keys, dropout", {1, 2, 6, 2}, {1, 2, 5, 2},
                     {.dropout = 0.4, .q_starts = starts, .k_starts = key_starts}),
      attention_case("several query blocks", {1, 1, 66, 2}, {1, 1, 66, 2}, {.causal = true}),
      // Heads of 8 channels reach the tensor cores in 16 bits.
      attention_case("rows of 16 bytes", {2, 4, 9, 8}, {2, 2, 9, 8}, {.causal = true}),
      attention_case("rows of 16 bytes, window and dropout", {1, 2, 7, 8}, {1, 1, 12, 8},
                     {.causal = true, .window = 4, .dropout = 0.3}),
      attention_case("rows of 16 bytes, a mask, an odd number of keys", {1, 1, 3, 8}, {1, 1, 3, 8},
                     {.dropout = 0.3, .mask = boolean}),
      attention_case("more than a tile of queries", {1, 1, 130, 8}, {1, 1, 66, 8},
                     {.causal = true}),
  };
}

}  // namespace tendril::testing
