// Every case of tests/golden/*.safetensors: our outputs and gradients against PyTorch's, in f64 and
// f32.
#include <doctest/doctest.h>

#include <set>

#include <tendril/autograd/tape.h>

#include "golden_rows.h"
#include "golden_values.h"

namespace tendril::testing {
namespace {

using Values = std::map<std::string, Tensor>;

// name/in0, name/in1, ... as far as they go
Tensors numbered(const Values& values, const std::string& name) {
  Tensors result;
  for (auto found = values.find(name + "0"); found != values.end();
       found = values.find(name + std::to_string(result.size()))) {
    result.push_back(found->second);
  }
  return result;
}

void check_close(const std::string& what, const Tensor& result, const Tensor& truth, DType dtype,
                 double tolerance) {
  CAPTURE(what);
  CHECK(result.dtype() == (is_floating(truth.dtype()) ? dtype : truth.dtype()));
  CHECK(result.shape() == truth.shape());
  CHECK(golden_deviation(result, truth) <= tolerance);
}

void check_gradients(const GoldenRow& row, const Values& values, const Tensors& inputs,
                     const Tensors& outputs, DType dtype, double tolerance) {
  Tensors roots, upstream;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const auto found = values.find(row.name + "/up" + std::to_string(i));
    if (found == values.end()) continue;
    roots.push_back(outputs[i]);
    upstream.push_back(to(found->second, dtype));
  }
  if (roots.empty()) return;
  backward(roots, upstream);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto found = values.find(row.name + "/grad" + std::to_string(i));
    if (found == values.end()) continue;
    const std::string what = row.name + " gradient " + std::to_string(i);
    CAPTURE(what);
    CHECK(inputs[i].grad().defined());
    if (inputs[i].grad().defined())
      check_close(what, inputs[i].grad(), found->second, dtype, tolerance);
  }
}

void check_row(const GoldenRow& row, const Values& values, DType dtype, double tolerance) {
  Tensors inputs = numbered(values, row.name + "/in");
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (is_floating(inputs[i].dtype())) inputs[i] = clone(to(inputs[i], dtype));
    if (values.count(row.name + "/grad" + std::to_string(i))) inputs[i].requires_grad_();
  }
  const Tensors outputs = row.run(inputs), expected = numbered(values, row.name + "/out");
  CHECK(outputs.size() == expected.size());
  if (outputs.size() != expected.size()) return;
  for (size_t i = 0; i < outputs.size(); ++i) {
    check_close(row.name + " output " + std::to_string(i), outputs[i], expected[i], dtype,
                tolerance);
  }
  check_gradients(row, values, inputs, outputs, dtype, tolerance);
}

void check_family(const std::string& family, const std::vector<GoldenRow>& rows) {
  const Values values = load_golden(family);
  std::set<std::string> cases, named;
  for (const auto& [key, value] : values) cases.insert(key.substr(0, key.rfind('/')));
  for (const GoldenRow& row : rows) named.insert(row.name);
  for (const std::string& name : cases)
    CHECK_MESSAGE(named.count(name), "no operation is given for golden case ", name);
  for (const GoldenRow& row : rows) {
    CAPTURE(row.name);
    CHECK_MESSAGE(cases.count(row.name), "no golden case for row ", row.name);
    if (!cases.count(row.name)) continue;
    try {
      check_row(row, values, f64, 1e-10);
      check_row(row, values, f32, 1e-5);
    } catch (const Error& error) {
      FAIL_CHECK(row.name, " threw ", std::string(error.what()));
    }
  }
}

}  // namespace

TEST_SUITE("golden") {
  TEST_CASE("pointwise operations agree with PyTorch") {
    check_family("pointwise", golden_pointwise());
  }
  TEST_CASE("reductions agree with PyTorch") { check_family("reduce", golden_reduce()); }
  TEST_CASE("layout operations agree with PyTorch") { check_family("layout", golden_layout()); }
  TEST_CASE("dense algebra agrees with PyTorch") { check_family("algebra", golden_algebra()); }
  TEST_CASE("layers agree with PyTorch") { check_family("layers", golden_layers()); }
  TEST_CASE("attention agrees with PyTorch") { check_family("attention", golden_attention()); }
  TEST_CASE("losses agree with PyTorch") { check_family("losses", golden_losses()); }

  TEST_CASE("casts to 16 bits give PyTorch's bit patterns") {
    const Values values = load_golden("casts");
    const Tensor& in = values.at("in");
    const Tensor our_bf16 = to(in, bf16), our_f16 = to(in, f16);
    const auto same = [](auto ours, auto theirs) {  // any NaN is as good as another
      return ours.bits == theirs.bits || (std::isnan(float(ours)) && std::isnan(float(theirs)));
    };
    for (int64_t i = 0; i < in.numel(); ++i) {
      CAPTURE(in.data<float>()[i]);
      CHECK(same(our_bf16.data<bfloat16>()[i], values.at("to_bf16").data<bfloat16>()[i]));
      CHECK(same(our_f16.data<float16>()[i], values.at("to_f16").data<float16>()[i]));
    }
  }

  TEST_CASE("other casts agree with PyTorch exactly") {
    const Values values = load_golden("casts");
    const auto check = [&](const std::string& from, const std::string& result) {
      const Tensor& truth = values.at(result);
      CAPTURE(result);
      CHECK(golden_deviation(to(values.at(from), truth.dtype()), truth) == 0.0);
    };
    check("in", "to_f64");
    check("in", "to_bool");
    check("fractions", "fractions_to_i64");
    check("fractions", "fractions_to_i32");
    check("positives", "positives_to_u8");
    check("integers", "integers_to_f32");
    check("integers", "integers_to_f64");
    check("integers", "integers_to_bool");
    check("doubles", "doubles_to_f32");
    check("f16", "f16_to_f32");
    check("bf16", "bf16_to_f32");
  }
}

}  // namespace tendril::testing
