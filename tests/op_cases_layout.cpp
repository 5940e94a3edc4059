#include <tendril/autograd/functions.h>
#include <tendril/core/random.h>

#include "op_cases.h"

namespace tendril::testing {
namespace {

using Inputs = std::vector<Tensor>;

OpInput indices(std::initializer_list<int64_t> values, const Shape& shape) {
  OpInput input{shape};
  input.differentiable = false;
  input.value = Tensor::from<int64_t>(values, shape);
  return input;
}

OpInput indices32(std::initializer_list<int32_t> values, const Shape& shape) {
  OpInput input{shape};
  input.differentiable = false;
  input.value = Tensor::from<int32_t>(values, shape);
  return input;
}

void add_views(std::vector<OpCase>& cases) {
  const auto add = [&](Op op, const char* label, const Shape& shape, auto run) {
    cases.push_back({op, label, {{shape}}, [run](const Inputs& in) { return run(in[0]); }});
  };
  using T = const Tensor&;
  add(Op::reshape, "reshape (2, 3, 4) to (4, -1)", {2, 3, 4}, [](T x) {
    return reshape(x, {4, -1});
  });
  add(Op::reshape, "reshape of a transpose", {3, 4}, [](T x) {
    return reshape(transpose(x), {2, 6});
  });
  add(Op::reshape, "reshape to rank 0", {1, 1}, [](T x) { return reshape(x, {}); });
  add(Op::reshape, "reshape of nothing", {0, 3}, [](T x) { return reshape(x, {3, 2, 0}); });
  add(Op::reshape, "flatten inner axes", {2, 3, 2}, [](T x) { return flatten(x, 1); });
  add(Op::reshape, "squeeze axis -2", {3, 1, 2}, [](T x) { return squeeze(x, -2); });
  add(Op::reshape, "squeeze all", {1, 3, 1}, [](T x) { return squeeze(x); });
  add(Op::reshape, "unsqueeze axis -1", {3, 2}, [](T x) { return unsqueeze(x, -1); });
  add(Op::reshape, "view", {6}, [](T x) { return view(contiguous(x), {2, 3}); });
  add(Op::permute, "permute (2, 0, 1)", {2, 3, 4}, [](T x) { return permute(x, {2, 0, 1}); });
  add(Op::permute, "permute with negative axes", {2, 3, 4}, [](T x) {
    return permute(x, {-1, -3, -2});
  });
  add(Op::permute, "transpose", {2, 3}, [](T x) { return transpose(x); });
  add(Op::permute, "transpose axes 0 and -1", {2, 3, 4}, [](T x) { return transpose(x, 0, -1); });
  add(Op::expand, "expand inner axis", {3, 1}, [](T x) { return expand(x, {3, 4}); });
  add(Op::expand, "expand with new axes", {1, 2}, [](T x) { return expand(x, {2, 3, -1}); });
  add(Op::expand, "expand to nothing", {1, 2}, [](T x) { return expand(x, {0, 2}); });
  add(Op::expand, "expand a number", {}, [](T x) { return expand(x, {2, 2}); });
  add(Op::slice, "slice 1:3", {4, 3}, [](T x) { return slice(x, 0, 1, 3); });
  add(Op::slice, "slice -3::2 of the last axis", {2, 5},
      [](T x) { return slice(x, -1, -3, {}, 2); });
  add(Op::slice, "slice backwards", {5, 2}, [](T x) { return slice(x, 0, -1, -5, -2); });
  add(Op::slice, "slice of nothing", {4, 2}, [](T x) { return slice(x, 0, 3, 1); });
  add(Op::slice, "select -1", {3, 4}, [](T x) { return select(x, 1, -1); });
  add(Op::slice, "select of a vector", {4}, [](T x) { return select(x, 0, 2); });
  add(Op::split, "split, every piece used", {2, 5}, [](T x) {
    const auto pieces = split(x, {2, 0, 3}, 1);
    return cat({pieces[2], pieces[1], pieces[0]}, -1);
  });
  add(Op::split, "split, a piece unused", {5, 2}, [](T x) { return split(x, 2)[1]; });
  add(Op::split, "split, a piece used twice", {4}, [](T x) {
    const auto pieces = chunk(x, 2, -1);
    return cat({pieces[0], pieces[0], pieces[1]});
  });
  add(Op::diagonal, "diagonal", {3, 4}, [](T x) { return diagonal(x); });
  add(Op::diagonal, "diagonal below, axes 2 and 0", {2, 3, 4},
      [](T x) { return diagonal(x, -1, 2, 0); });
  add(Op::diagonal, "diagonal outside", {2, 3}, [](T x) { return diagonal(x, 5); });
}

void add_rearrangements(std::vector<OpCase>& cases) {
  const auto add = [&](Op op, const char* label, const Shape& shape, auto run) {
    cases.push_back({op, label, {{shape}}, [run](const Inputs& in) { return run(in[0]); }});
  };
  using T = const Tensor&;
  cases.push_back({Op::cat, "cat axis 1", {{{2, 3}}, {{2, 0}}, {{2, 2}}}, [](const Inputs& in) {
                     return cat(in, 1);
                   }});
  cases.push_back(
      {Op::cat, "cat axis -2, one part twice", {{{1, 2}}, {{2, 2}}}, [](const Inputs& in) {
         return cat({in[1], in[0], in[1]}, -2);
       }});
  cases.push_back({Op::cat, "stack axis -1", {{{2, 3}}, {{2, 3}}}, [](const Inputs& in) {
                     return stack(in, -1);
                   }});
  add(Op::flip, "flip both axes", {2, 3}, [](T x) { return flip(x, {0, -1}); });
  add(Op::flip, "flip axis 1", {2, 3, 2}, [](T x) { return flip(x, {1}); });
  add(Op::flip, "flip of nothing", {0, 2}, [](T x) { return flip(x, {}); });
  add(Op::roll, "roll by 2", {2, 5}, [](T x) { return roll(x, 2, 1); });
  add(Op::roll, "roll by -8 of axis -2", {3, 2}, [](T x) { return roll(x, -8, -2); });
  add(Op::roll, "roll of nothing", {0, 2}, [](T x) { return roll(x, 1, 0); });
  add(Op::repeat, "repeat (2, 3)", {2, 3}, [](T x) { return repeat(x, {2, 3}); });
  add(Op::repeat, "repeat with a new axis", {2, 3}, [](T x) { return repeat(x, {2, 1, 2}); });
  add(Op::repeat, "repeat no times", {2, 3}, [](T x) { return repeat(x, {0, 2}); });
  add(Op::pad, "pad both axes", {2, 3}, [](T x) { return pad(x, {1, 0, 2, 1}, 0.5); });
  add(Op::pad, "pad the first axis", {2, 3}, [](T x) { return pad(x, {0, 2}); });
  add(Op::pad, "pad nothing", {0, 2}, [](T x) { return pad(x, {1, 1}); });
  add(Op::tril, "tril", {3, 3}, [](T x) { return tril(x); });
  add(Op::tril, "tril of a batch, diagonal 1", {2, 3, 4}, [](T x) { return tril(x, 1); });
  add(Op::tril, "tril far below", {2, 3}, [](T x) { return tril(x, -9); });
  add(Op::triu, "triu", {4, 3}, [](T x) { return triu(x); });
  add(Op::triu, "triu of a batch, diagonal -1", {2, 3, 3}, [](T x) { return triu(x, -1); });
  // The small factor keeps the rounding to f32 below the check's tolerance, not the gradient.
  add(Op::to, "to f32", {2, 3}, [](T x) { return x + to(x, f32) * 1e-4; });
  add(Op::contiguous, "contiguous of every second", {2, 6},
      [](T x) { return contiguous(slice(x, 1, 0, {}, 2)); });
  add(Op::contiguous, "contiguous of a transpose", {2, 3},
      [](T x) { return contiguous(transpose(x)); });
  add(Op::clone, "clone", {2, 3}, [](T x) { return clone(x); });
  add(Op::clone, "clone of nothing", {0}, [](T x) { return clone(x); });
}

void add_indexing(std::vector<OpCase>& cases) {
  cases.push_back({Op::index_select,
                   "index_select, repeated rows",
                   {{{4, 3}}, indices({2, 0, 2, 2}, {4})},
                   [](const Inputs& in) { return index_select(in[0], 0, in[1]); }});
  cases.push_back({Op::index_select,
                   "index_select of the last axis, i32",
                   {{{2, 3, 4}}, indices32({3, 1, 3}, {3})},
                   [](const Inputs& in) { return index_select(in[0], -1, in[1]); }});
  cases.push_back({Op::index_select,
                   "index_select of nothing",
                   {{{2, 3}}, indices({}, {0})},
                   [](const Inputs& in) { return index_select(in[0], 1, in[1]); }});
  cases.push_back({Op::gather,
                   "gather axis 1, repeated",
                   {{{2, 4}}, indices({0, 0, 3, 1, 1, 2}, {2, 3})},
                   [](const Inputs& in) { return gather(in[0], 1, in[1]); }});
  cases.push_back({Op::gather,
                   "gather axis -3, i32",
                   {{{3, 2, 2}}, indices32({0, 1, 2, 2}, {1, 2, 2})},
                   [](const Inputs& in) { return gather(in[0], -3, in[1]); }});
  cases.push_back({Op::scatter_add,
                   "scatter_add axis 0, repeated",
                   {{{3, 2}}, indices({2, 0, 2, 1, 2, 0, 0, 0}, {4, 2}), {{4, 2}}},
                   [](const Inputs& in) { return scatter_add(in[0], 0, in[1], in[2]); }});
  cases.push_back({Op::scatter_add,
                   "scatter_add axis -1",
                   {{{2, 3}}, indices({1, 1, 0, 2}, {2, 2}), {{2, 2}}},
                   [](const Inputs& in) { return scatter_add(in[0], -1, in[1], in[2]); }});
}

// The draws are the same in every run of a case: each starts from its own generator.
void add_nondifferentiable(std::vector<OpCase>& cases) {
  const auto seeded = [](auto draw) {
    return [draw](const Inputs& in) {
      Generator generator(7);
      const GeneratorGuard guard(generator);
      return draw(in[0]);
    };
  };
  const auto add = [&](Op op, const char* label, const OpInput& input, auto run) {
    OpCase row{op, label, {input}, seeded(run)};
    row.half = false;  // rounding the input may change an index or a draw
    cases.push_back(row);
  };
  using T = const Tensor&;
  add(Op::one_hot, "one_hot", {{2, 3}, 0.1, 3.9}, [](T x) { return one_hot(to(x, i64), 4); });
  add(Op::multinomial, "multinomial, one draw", {{3, 5}, 0.1, 2.0},
      [](T x) { return multinomial(x); });
  add(Op::multinomial, "multinomial with replacement", {{2, 4}, 0.1, 2.0},
      [](T x) { return multinomial(x, 6, true); });
  add(Op::multinomial, "multinomial without replacement", {{6}, 0.1, 2.0},
      [](T x) { return multinomial(x, 4); });
  add(Op::bernoulli, "bernoulli", {{4, 5}, 0.1, 0.9}, [](T x) { return bernoulli(x); });
}

}  // namespace

std::vector<OpCase> layout_cases() {
  std::vector<OpCase> cases;
  add_views(cases);
  add_rearrangements(cases);
  add_indexing(cases);
  add_nondifferentiable(cases);
  return cases;
}

}  // namespace tendril::testing
