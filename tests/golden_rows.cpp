// The golden cases of pointwise, reducing and layout operations and of dense algebra.
#include "golden_rows.h"

#include <limits>

namespace tendril::testing {

using Rows = std::vector<GoldenRow>;
using In = const Tensors&;

Rows golden_pointwise() {
  Rows rows = {
#define UNARY(op, ...) {#op, [](In x) { return op(x[0]); }},
#define UNARY_NONDIFF(op, ...) {#op, [](In x) { return op(x[0]); }},
#define BINARY(op, ...)                       \
  {#op, [](In x) { return op(x[0], x[1]); }}, \
      {#op "_broadcast", [](In x) { return op(x[0], x[1]); }},
#define COMPARE(op, ...) {#op, [](In x) { return op(x[0], x[1]); }},
#include <tendril/core/ops/ops.def>
      {"leaky_relu", [](In x) { return leaky_relu(x[0], 0.01); }},
      {"leaky_relu_steep", [](In x) { return leaky_relu(x[0], 0.3); }},
      {"clamp", [](In x) { return clamp(x[0], -0.5, 1.5); }},
      {"clamp_min", [](In x) { return clamp_min(x[0], -0.5); }},
      {"clamp_max", [](In x) { return clamp_max(x[0], 0.75); }},
      {"add_number", [](In x) { return x[0] + 1.5; }},
      {"sub_number", [](In x) { return x[0] - 1.5; }},
      {"mul_number", [](In x) { return x[0] * 1.5; }},
      {"div_number", [](In x) { return x[0] / 1.5; }},
      {"number_add", [](In x) { return 1.5 + x[0]; }},
      {"number_sub", [](In x) { return 1.5 - x[0]; }},
      {"number_mul", [](In x) { return 1.5 * x[0]; }},
      {"number_div", [](In x) { return 1.5 / x[0]; }},
      {"pow_zero_base", [](In x) { return pow(x[0], x[1]); }},
      {"pow_0", [](In x) { return pow(x[0], 0.0); }},
      {"pow_1", [](In x) { return pow(x[0], 1.0); }},
      {"pow_2", [](In x) { return pow(x[0], 2.0); }},
      {"pow_3", [](In x) { return pow(x[0], 3.0); }},
      {"pow_minus_1", [](In x) { return pow(x[0], -1.0); }},
      {"pow_minus_2", [](In x) { return pow(x[0], -2.0); }},
      {"pow_half", [](In x) { return pow(x[0], 0.5); }},
      {"pow_2_5", [](In x) { return pow(x[0], 2.5); }},
      {"number_pow", [](In x) { return pow(2.0, x[0]); }},
      {"compare_nan",
       [](In x) {
         return Tensors{eq(x[0], x[1]), ne(x[0], x[1]), lt(x[0], x[1]), ge(x[0], x[1])};
       }},
      {"lt_number", [](In x) { return lt(x[0], 0.3); }},
      {"logical_not", [](In x) { return logical_not(x[0]); }},
      {"isfinite", [](In x) { return isfinite(x[0]); }},
      {"where", [](In x) { return where(x[0], x[1], x[2]); }},
      {"where_broadcast", [](In x) { return where(x[0], x[1], x[2]); }},
      {"masked_fill", [](In x) { return masked_fill(x[0], x[1], -7.5); }},
  };
  return rows;
}

namespace {

using Reduction = Tensor (*)(const Tensor& x, const Shape& axes, bool keepdim);

const std::pair<const char*, Reduction> kReductions[] = {
    {"sum", [](const Tensor& x, const Shape& axes, bool keepdim) { return sum(x, axes, keepdim); }},
    {"mean",
     [](const Tensor& x, const Shape& axes, bool keepdim) { return mean(x, axes, keepdim); }},
    {"max", [](const Tensor& x, const Shape& axes, bool keepdim) { return max(x, axes, keepdim); }},
    {"min", [](const Tensor& x, const Shape& axes, bool keepdim) { return min(x, axes, keepdim); }},
    {"var", [](const Tensor& x, const Shape& axes, bool keepdim) { return var(x, axes, keepdim); }},
    {"var_correction0",
     [](const Tensor& x, const Shape& axes, bool keepdim) { return var(x, axes, keepdim, 0); }},
    {"std", [](const Tensor& x, const Shape& axes,
               bool keepdim) { return tendril::std(x, axes, keepdim); }},
    {"std_correction0", [](const Tensor& x, const Shape& axes,
                           bool keepdim) { return tendril::std(x, axes, keepdim, 0); }},
    {"norm1",
     [](const Tensor& x, const Shape& axes, bool keepdim) { return norm(x, 1.0, axes, keepdim); }},
    {"norm2",
     [](const Tensor& x, const Shape& axes, bool keepdim) { return norm(x, 2.0, axes, keepdim); }},
    {"norm3",
     [](const Tensor& x, const Shape& axes, bool keepdim) { return norm(x, 3.0, axes, keepdim); }},
    {"norm_inf",
     [](const Tensor& x, const Shape& axes, bool keepdim) {
       return norm(x, std::numeric_limits<double>::infinity(), axes, keepdim);
     }},
    {"logsumexp",
     [](const Tensor& x, const Shape& axes, bool keepdim) { return logsumexp(x, axes, keepdim); }},
};

struct Form {
  const char* label;
  Shape axes;
  bool keepdim;
};

const Form kForms[] = {{"all", {}, false},
                       {"axis0", {0}, false},
                       {"axis1_keepdim", {1}, true},
                       {"axes02", {0, 2}, false},
                       {"last_keepdim", {-1}, true}};

}  // namespace

Rows golden_reduce() {
  Rows rows;
  for (const auto& [name, reduction] : kReductions) {
    for (const Form& form : kForms) {
      rows.push_back({std::string(name) + "/" + form.label, [reduction = reduction, form](In x) {
                        return reduction(x[0], form.axes, form.keepdim);
                      }});
    }
  }
  const std::pair<std::string, int64_t> axes[] = {{"_0", 0}, {"_1", 1}, {"_last", -1}};
  for (const auto& [label, axis_value] : axes) {
    const int64_t axis = axis_value;
    rows.push_back({"cumsum" + label, [axis](In x) { return cumsum(x[0], axis); }});
    rows.push_back({"sort" + label, [axis](In x) { return sort(x[0], axis); }});
    rows.push_back({"sort_descending" + label, [axis](In x) { return sort(x[0], axis, true); }});
    rows.push_back({"argsort" + label, [axis](In x) { return argsort(x[0], axis); }});
    rows.push_back({"topk" + label, [axis](In x) { return topk(x[0], 2, axis); }});
    rows.push_back({"topk_smallest" + label, [axis](In x) { return topk(x[0], 3, axis, false); }});
    rows.push_back({"argmax" + label, [axis](In x) { return argmax(x[0], axis); }});
    rows.push_back({"argmin" + label, [axis](In x) { return argmin(x[0], axis, true); }});
  }
  const Rows more = {
      {"var_offset", [](In x) { return var(x[0], {-1}); }},
      {"sum_one_element", [](In x) { return sum(x[0], {0}); }},
      {"norm2_zero_row", [](In x) { return norm(x[0], 2.0, {-1}); }},
      {"norm1_zeros", [](In x) { return norm(x[0], 1.0, {-1}); }},
      {"logsumexp_large", [](In x) { return logsumexp(x[0], {-1}); }},
      {"logsumexp_shifted", [](In x) { return logsumexp(x[0], {-1}); }},
      {"logsumexp_infinite", [](In x) { return logsumexp(x[0], {-1}); }},
      {"prod", [](In x) { return prod(x[0]); }},
      {"prod_axis", [](In x) { return prod(x[0], {1}); }},
      {"prod_axis_keepdim", [](In x) { return prod(x[0], {-1}, true); }},
      {"prod_zeros", [](In x) { return prod(x[0], {1}); }},
      {"argmax_flat", [](In x) { return argmax(x[0]); }},
      {"nan_sort", [](In x) { return sort(x[0]); }},
      {"nan_max", [](In x) { return max(x[0], {-1}); }},
      {"nan_min", [](In x) { return min(x[0], {-1}); }},
      {"nan_argmax", [](In x) { return argmax(x[0], -1); }},
      {"nan_argmin", [](In x) { return argmin(x[0], -1); }},
      {"stable_sort", [](In x) { return sort(x[0]); }},
      {"stable_sort_descending", [](In x) { return sort(x[0], -1, true); }},
      {"any", [](In x) { return any(x[0], {1}); }},
      {"all", [](In x) { return all(x[0], {1}, true); }},
      {"sum_bool", [](In x) { return sum(x[0], {0}); }},
  };
  rows.insert(rows.end(), more.begin(), more.end());
  return rows;
}

Rows golden_layout() {
  Rows rows = {
      {"reshape",
       [](In x) {
         return reshape(x[0], {4, -1});
       }},
      {"reshape_of_transpose",
       [](In x) {
         return reshape(transpose(x[0], 0, 1), {6, 4});
       }},
      {"flatten", [](In x) { return flatten(x[0], 1, 2); }},
      {"transpose", [](In x) { return transpose(x[0], 0, 2); }},
      {"permute",
       [](In x) {
         return permute(x[0], {2, 0, 3, 1});
       }},
      {"expand",
       [](In x) {
         return expand(x[0], {4, -1, 3});
       }},
      {"squeeze_unsqueeze", [](In x) { return unsqueeze(squeeze(x[0], 1), -1); }},
      {"cat", [](In x) { return cat(x, 1); }},
      {"stack", [](In x) { return stack(x, 1); }},
      {"split", [](In x) { return split(x[0], 2, 1); }},
      {"split_sizes",
       [](In x) {
         return split(x[0], std::vector<int64_t>{1, 3, 2}, 0);
       }},
      {"chunk", [](In x) { return chunk(x[0], 3, -1); }},
      {"slice", [](In x) { return slice(x[0], 1, 1, -1, 2); }},
      {"slice_backwards", [](In x) { return slice(x[0], 1, 5, 0, -2); }},
      {"select", [](In x) { return select(x[0], 1, -2); }},
      {"index_select", [](In x) { return index_select(x[0], 1, x[1]); }},
      {"gather", [](In x) { return gather(x[0], 1, x[1]); }},
      {"gather_last", [](In x) { return gather(x[0], -1, x[1]); }},
      {"scatter_add", [](In x) { return scatter_add(x[0], 0, x[1], x[2]); }},
      {"flip",
       [](In x) {
         return flip(x[0], {0, 2});
       }},
      {"roll", [](In x) { return roll(x[0], 2, 1); }},
      {"roll_backwards", [](In x) { return roll(x[0], -7, 0); }},
      {"repeat",
       [](In x) {
         return repeat(x[0], {2, 1, 3});
       }},
      {"pad",
       [](In x) {
         return pad(x[0], {1, 2, 3, 0}, 0.5);
       }},
      {"diagonal_axes", [](In x) { return diagonal(x[0], 1, 2, 0); }},
      {"one_hot", [](In x) { return one_hot(x[0], 5, i64); }},
  };
  const std::pair<std::string, int64_t> offsets[] = {{"_minus_1", -1}, {"_0", 0}, {"_1", 1}};
  for (const auto& [label, offset_value] : offsets) {
    const int64_t offset = offset_value;
    rows.push_back({"tril" + label, [offset](In x) { return tril(x[0], offset); }});
    rows.push_back({"triu" + label, [offset](In x) { return triu(x[0], offset); }});
    rows.push_back({"diagonal" + label, [offset](In x) { return diagonal(x[0], offset); }});
  }
  return rows;
}

Rows golden_algebra() {
  Rows rows = {
      {"matmul_nt", [](In x) { return matmul(x[0], transpose(x[1])); }},
      {"matmul_tn", [](In x) { return matmul(transpose(x[0]), x[1]); }},
      {"matmul_tt", [](In x) { return matmul(transpose(x[0]), transpose(x[1])); }},
      {"linear", [](In x) { return linear(x[0], x[1], x[2]); }},
      {"linear_no_bias", [](In x) { return linear(x[0], x[1]); }},
      {"linear_vector", [](In x) { return linear(x[0], x[1], x[2]); }},
  };
  for (const char* form : {"", "_wide", "_batched", "_broadcast", "_shared_right", "_shared_left",
                           "_dot", "_vector_left", "_vector_right", "_outer"}) {
    rows.push_back({std::string("matmul") + form, [](In x) { return matmul(x[0], x[1]); }});
  }
  for (const std::string equation :
       {"ij,jk->ik", "bthd,bshd->bhts", "bhts,bshd->bthd", "ij,ij->", "i,j->ij", "bij,bj->bi",
        "bij,kj->bki", "ij,ij->ij", "ijk,kl->jl", "btc,c->bt", "ijk->ki", "ijk->kij"}) {
    rows.push_back({"einsum " + equation, [equation](In x) {
                      return einsum(equation, x[0], x.size() > 1 ? x[1] : Tensor{});
                    }});
  }
  return rows;
}

}  // namespace tendril::testing
