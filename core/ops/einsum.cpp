// Two-operand Einstein summation as one batched matrix product. Every index falls into one class:
//   batch: in both operands and the result     contracted: in both operands only
//   left, right: in one operand and the result alone: in one operand only (summed beforehand)

#include <algorithm>

#include <tendril/core/ops/layout.h>
#include <tendril/core/ops/matmul.h>
#include <tendril/core/ops/reduce.h>

namespace tendril::ops {
namespace {

struct Equation {
  std::string a, b, out;
};

bool contains(const std::string& indices, char index) {
  return indices.find(index) != std::string::npos;
}

Equation parse(const std::string& text) {
  std::string packed;
  std::copy_if(text.begin(), text.end(), std::back_inserter(packed),
               [](char c) { return c != ' '; });
  const size_t comma = packed.find(','), arrow = packed.find("->");
  TENDRIL_CHECK(comma != std::string::npos && arrow != std::string::npos && comma < arrow,
                "[einsum] the equation must "
                "have the form \"ij,jk->ik\"; got \"",
                text, "\"");
  const Equation e{packed.substr(0, comma), packed.substr(comma + 1, arrow - comma - 1),
                   packed.substr(arrow + 2)};
  for (const std::string* indices : {&e.a, &e.b, &e.out})
    for (char index : *indices) {
      TENDRIL_CHECK((index >= 'a' && index <= 'z') || (index >= 'A' && index <= 'Z'),
                    "[einsum] indices must be letters; got '", index, "' in \"", text, "\"");
      TENDRIL_CHECK(std::count(indices->begin(), indices->end(), index) == 1, "[einsum] index '",
                    index, "' stands twice in one term of \"", text, "\"; take a diagonal() first");
    }
  for (char index : e.out)
    TENDRIL_CHECK(contains(e.a, index) || contains(e.b, index), "[einsum] index '", index,
                  "' of the result stands in no operand of \"", text, "\"");
  return e;
}

void require_shapes(const Equation& e, const Tensor& a, const Tensor& b) {
  const auto check_rank = [](const std::string& indices, const Tensor& x) {
    TENDRIL_CHECK(static_cast<int64_t>(indices.size()) == x.rank(), "[einsum] term \"", indices,
                  "\" names ", indices.size(), " axes; got a tensor of shape ", x.shape());
  };
  check_rank(e.a, a);
  check_rank(e.b, b);
  for (size_t i = 0; i < e.a.size(); ++i)
    if (const size_t j = e.b.find(e.a[i]); j != std::string::npos)
      TENDRIL_CHECK(a.shape()[static_cast<int64_t>(i)] == b.shape()[static_cast<int64_t>(j)],
                    "[einsum] index '", e.a[i], "' has two sizes; got ", a.shape(), " and ",
                    b.shape());
}

// Sums over the axes for which `keep` says no, and drops their indices.
template <class Keep>
Tensor sum_others(const Tensor& x, std::string& indices, Keep keep) {
  Shape axes;
  std::string kept;
  for (size_t i = 0; i < indices.size(); ++i) {
    if (keep(indices[i]))
      kept += indices[i];
    else
      axes.push_back(static_cast<int64_t>(i));
  }
  indices = kept;
  return axes.empty() ? x : sum(x, axes, false);
}

// x with its axes in the order of `groups`, each group merged into one axis.
Tensor grouped(const Tensor& x, const std::string& indices,
               std::initializer_list<std::string> groups) {
  Shape order, merged;
  for (const std::string& group : groups) {
    int64_t size = 1;
    for (char index : group) {
      const auto axis = static_cast<int64_t>(indices.find(index));
      order.push_back(axis);
      size *= x.shape()[axis];
    }
    merged.push_back(size);
  }
  return reshape(permute(x, order), merged);
}

Tensor reordered(const Tensor& x, const std::string& from, const std::string& to) {
  Shape order;
  for (char index : to) order.push_back(static_cast<int64_t>(from.find(index)));
  return permute(x, order);
}

Tensor contract(Equation e, Tensor a, Tensor b) {
  a = sum_others(a, e.a,
                 [&](char index) { return contains(e.b, index) || contains(e.out, index); });
  b = sum_others(b, e.b,
                 [&](char index) { return contains(e.a, index) || contains(e.out, index); });
  std::string batch, contracted, left, right;
  for (char index : e.a)
    (contains(e.b, index) ? (contains(e.out, index) ? batch : contracted) : left) += index;
  for (char index : e.b)
    if (!contains(e.a, index)) right += index;
  const Tensor product = matmul(grouped(a, e.a, {batch, left, contracted}),
                                grouped(b, e.b, {batch, contracted, right}));
  Shape shape;
  for (char index : batch + left) shape.push_back(a.shape()[static_cast<int64_t>(e.a.find(index))]);
  for (char index : right) shape.push_back(b.shape()[static_cast<int64_t>(e.b.find(index))]);
  return reordered(reshape(product, shape), batch + left + right, e.out);
}

}  // namespace

Tensor einsum(const std::string& equation, const Tensor& a, const Tensor& b) {
  const Equation e = parse(equation);
  require_shapes(e, a, b);
  return contract(e, a, b);
}

// The gradient is again a contraction, of g with the other operand; an index that stood in this
// operand alone was summed, so the gradient is constant along it.
Tensor einsum_backward(const std::string& equation, int operand, const Tensor& g,
                       const Tensor& other, const Shape& shape) {
  const Equation e = parse(equation);
  const std::string& own = operand == 0 ? e.a : e.b;
  const std::string& others = operand == 0 ? e.b : e.a;
  std::string reached;
  Shape broadcast;
  for (size_t i = 0; i < own.size(); ++i) {
    const bool summed_alone = !contains(e.out, own[i]) && !contains(others, own[i]);
    if (!summed_alone) reached += own[i];
    broadcast.push_back(summed_alone ? 1 : shape[static_cast<int64_t>(i)]);
  }
  const Tensor partial = contract({e.out, others, reached}, g, other);
  return expand(reshape(partial, broadcast), shape);
}

}  // namespace tendril::ops
