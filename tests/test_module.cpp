#include <doctest/doctest.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/nn/linear.h>
#include <tendril/nn/module.h>
#include <tendril/nn/module_list.h>
#include <tendril/nn/sequential.h>
#include <tendril/optim/sgd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

// A user's model, as the README writes it.
struct Mlp : nn::Module {
  nn::Linear up{3, 4}, down{4, 2};
  Mlp() {
    add("up", up);
    add("down", down);
  }
  Tensor forward(const Tensor& x) { return down(relu(up(x))); }
};

// y = x * scale + shift, with a buffer, without matmul.
struct Affine : nn::Module {
  Tensor scale = add_parameter("scale", ones({2}));
  Tensor shift = add_parameter("shift", zeros({2}));
  Tensor steps = add_buffer("steps", zeros({1}, i64));
  Tensor scratch = add_buffer("scratch", zeros({2}), /*persistent=*/false);
  Tensor forward(const Tensor& x) const { return x * scale + shift; }
};

// Two parts that share one weight.
struct Tied : nn::Module {
  nn::Linear embedding{2, 3, {.bias = false}};
  nn::Linear head{embedding.weight()};
  Tied() {
    add("embedding", embedding);
    add("head", head);
  }
};

std::vector<std::string> names(const std::vector<NamedTensor>& list) {
  std::vector<std::string> result;
  for (const NamedTensor& entry : list) result.push_back(entry.name);
  return result;
}

Mlp make_mlp() { return Mlp(); }

}  // namespace

TEST_SUITE("module") {
  TEST_CASE("names come in the order of registration, dotted") {
    const Mlp model;
    CHECK(names(model.named_parameters()) ==
          std::vector<std::string>{"up.weight", "up.bias", "down.weight", "down.bias"});
    CHECK(model.parameter("down.weight").shape() == Shape{2, 4});
    CHECK(model.parameter("down.weight").is_same(model.down.weight()));
    CHECK(model.parameter_count() == 3 * 4 + 4 + 4 * 2 + 2);
    CHECK(model.parameters().size() == 4);
    CHECK(model.type_name() == "Mlp");
    for (const Tensor& parameter : model.parameters()) {
      CHECK(parameter.requires_grad());
      CHECK(parameter.is_leaf());
    }
  }

  TEST_CASE("a module stays where it was made, yet can be returned") {
    static_assert(!std::is_copy_constructible_v<Mlp> && !std::is_move_constructible_v<Mlp> &&
                  !std::is_copy_assignable_v<Mlp> && !std::is_move_assignable_v<Mlp>);
    auto model = make_mlp();
    CHECK(model.parameter("up.weight").is_same(model.up.weight()));
    model.for_each_module([&](const std::string& name, nn::Module& part) {
      if (name == "up") CHECK(&part == &model.up);
    });
  }

  TEST_CASE("bad names, duplicates, nothing and cycles are Errors") {
    struct Open : nn::Module {};
    Open module, other;
    module.add_parameter("a", zeros({1}));
    CHECK_THROWS_AS(module.add_parameter("", zeros({1})), Error);
    CHECK_THROWS_AS(module.add_parameter("x.y", zeros({1})), Error);
    CHECK_THROWS_AS(module.add_parameter("a", zeros({1})), Error);
    CHECK_THROWS_AS(module.add_buffer("a", zeros({1})), Error);
    CHECK_THROWS_AS(module.add("a", other), Error);
    CHECK_THROWS_AS(module.add("x.y", other), Error);
    CHECK_THROWS_AS(module.add_parameter("b", Tensor()), Error);
    CHECK_THROWS_AS(module.add_parameter("b", zeros({1}, i64)), Error);
    CHECK_THROWS_AS(module.add("b", std::shared_ptr<nn::Module>()), Error);
    CHECK_THROWS_AS(module.add("b", module), Error);
    module.add("other", other);
    CHECK_THROWS_AS(other.add("parent", module), Error);
    CHECK(names(module.named_parameters()) == std::vector<std::string>{"a"});
    CHECK(contains(message_of([&] { module.parameter("missing"); }), "missing"));
  }

  TEST_CASE("children may be shared") {
    struct Holder : nn::Module {};
    auto child = std::make_shared<Affine>();
    {
      Holder holder;
      holder.add("child", child);
      CHECK(child.use_count() == 2);
      CHECK(names(holder.named_parameters()) ==
            std::vector<std::string>{"child.scale", "child.shift"});
      CHECK(names(holder.named_buffers()) ==
            std::vector<std::string>{"child.steps", "child.scratch"});
    }
    CHECK(child.use_count() == 1);
  }

  TEST_CASE("train and eval reach everything below") {
    Mlp model;
    CHECK(model.training());
    model.eval();
    CHECK(!model.training());
    CHECK(!model.up.training());
    model.up.train();
    CHECK(model.up.training());
    CHECK(!model.down.training());
  }

  TEST_CASE("tied weights appear once and count once") {
    Tied model;
    CHECK(names(model.named_parameters()) == std::vector<std::string>{"embedding.weight"});
    CHECK(model.parameter_count() == 6);
    CHECK(model.state_dict().size() == 1);
    CHECK(model.parameter("head.weight").is_same(model.embedding.weight()));
  }

  TEST_CASE("to(dtype) converts weights, gradients and floating buffers in every handle") {
    Affine model;
    optim::Sgd optimizer(model.named_parameters(), {.lr = 0.5});
    const Tensor held = model.scale;
    model.scale.set_grad(full({2}, 1.0));
    model.to(bf16);
    CHECK(held.dtype() == bf16);
    CHECK(held.requires_grad());
    CHECK(held.grad().dtype() == bf16);
    CHECK(model.scratch.dtype() == bf16);
    CHECK(model.steps.dtype() == i64);
    optimizer.step();
    CHECK(held.to_vector<float>() == std::vector<float>{0.5f, 0.5f});
    CHECK(model.parameter("scale").to_vector<float>() == std::vector<float>{0.5f, 0.5f});
    CHECK_THROWS_AS(model.to(i64), Error);
    model.to(Device::cpu());
    CHECK(held.dtype() == bf16);

    Tied tied;
    tied.to(f64);
    CHECK(tied.head.weight().is_same(tied.embedding.weight()));
    CHECK(tied.head.weight().dtype() == f64);
  }

  TEST_CASE("zero_grad and freezing") {
    Affine model;
    model.scale.set_grad(ones({2}));
    model.zero_grad();
    CHECK(!model.scale.grad().defined());
    model.requires_grad_(false);
    CHECK(!model.scale.requires_grad());
    CHECK(model.parameter_count() == 4);
    CHECK(model.parameter_count(/*trainable_only=*/true) == 0);
  }

  TEST_CASE("state_dict shares memory, leaves out transient buffers, and loads") {
    Affine source, target;
    {
      const NoGradGuard no_grad;
      fill_(source.scale, 3.0);
      fill_(source.steps, 7.0);
    }
    const StateDict state = source.state_dict();
    CHECK(state.size() == 3);
    CHECK(state.count("scratch") == 0);
    CHECK(!state.at("scale").requires_grad());
    CHECK(state.at("scale").storage() == source.scale.storage());
    const nn::LoadReport report = target.load_state_dict(state);
    CHECK(report.missing.empty());
    CHECK(report.unexpected.empty());
    CHECK(report.converted.empty());
    CHECK(target.scale.to_vector<float>() == std::vector<float>{3.0f, 3.0f});
    CHECK(target.steps.item<int64_t>() == 7);
    CHECK(target.scale.storage() != source.scale.storage());
    CHECK(target.scale.requires_grad());
  }

  TEST_CASE("strict loading reports every problem at once and changes nothing") {
    Mlp model;
    const std::vector<float> before = model.up.bias().to_vector<float>();
    StateDict state = Mlp().state_dict();
    state["up.weight"] = zeros({4, 5});
    state["down.bias"] = zeros({3});
    state.erase("down.weight");
    state["extra"] = zeros({1});
    const std::string message = message_of([&] { model.load_state_dict(state); });
    CHECK(contains(message, "up.weight has shape (4, 5), the module needs (4, 3)"));
    CHECK(contains(message, "down.bias has shape"));
    CHECK(contains(message, "down.weight is missing"));
    CHECK(contains(message, "extra is not part of the module"));
    CHECK(model.up.bias().to_vector<float>() == before);
  }

  TEST_CASE("lenient loading reports names, but wrong shapes stay Errors") {
    Mlp model;
    StateDict state = {{"up.bias", full({4}, 2.0)}, {"extra", zeros({1})}};
    const nn::LoadReport report = model.load_state_dict(state, {.strict = false});
    CHECK(report.missing == std::vector<std::string>{"up.weight", "down.weight", "down.bias"});
    CHECK(report.unexpected == std::vector<std::string>{"extra"});
    CHECK(model.up.bias().to_vector<float>() == std::vector<float>(4, 2.0f));
    state["up.weight"] = zeros({1});
    state["up.bias"] = zeros({4});
    CHECK_THROWS_AS(model.load_state_dict(state, {.strict = false}), Error);
    CHECK(model.up.bias().to_vector<float>() == std::vector<float>(4, 2.0f));
  }

  TEST_CASE("loading converts between floating types and says so") {
    Affine model;
    StateDict state = model.state_dict();
    state["scale"] = full({2}, 0.1, f64);
    const nn::LoadReport report = model.load_state_dict(state);
    CHECK(report.converted == std::vector<std::string>{"scale"});
    CHECK(model.scale.dtype() == f32);
    CHECK(model.scale.to_vector<float>() == std::vector<float>{0.1f, 0.1f});
    state["steps"] = zeros({1}, f32);
    CHECK(contains(message_of([&] { model.load_state_dict(state); }), "steps is f32"));
    state["steps"] = Tensor();
    CHECK_THROWS_AS(model.load_state_dict(state), Error);
  }

  TEST_CASE("a tied weight loads under any of its names") {
    Tied model;
    model.load_state_dict({{"head.weight", full({3, 2}, 4.0)}});
    CHECK(model.embedding.weight().to_vector<float>() == std::vector<float>(6, 4.0f));
    model.load_state_dict(
        {{"head.weight", full({3, 2}, 5.0)}, {"embedding.weight", full({3, 2}, 6.0)}});
    CHECK(model.embedding.weight().to_vector<float>() == std::vector<float>(6, 6.0f));
  }

  TEST_CASE("the summary lists every tensor and the totals") {
    Mlp model;
    model.down.requires_grad_(false);
    const std::string table = nn::summary(model);
    CHECK(contains(table, "up.weight    Linear  (4, 3)"));
    CHECK(contains(table, "Mlp: 26 parameters, 16 trainable, 104 B"));
    CHECK(std::count(table.begin(), table.end(), '\n') == 1 + 1 + 4 + 1 + 1);
    const std::string affine = nn::summary(Affine());
    CHECK(contains(affine, "buffer"));
    CHECK(contains(affine, "i64"));
    struct Wide : nn::Module {
      Wide() { add_parameter("weight", zeros({1234, 1000})); }
    };
    CHECK(contains(nn::summary(Wide()), "1,234,000 parameters, 1,234,000 trainable, 4.9 MB"));
  }

  TEST_CASE("Sequential and ModuleList number their children") {
    nn::Sequential net;
    net.push<nn::Linear>(3, 4).push(relu).push(std::make_shared<nn::Linear>(4, 2));
    CHECK(names(net.named_parameters()) ==
          std::vector<std::string>{"0.weight", "0.bias", "2.weight", "2.bias"});
    CHECK(net.size() == 3);
    CHECK_THROWS_AS(net.push(nn::Sequential::Function()), Error);

    nn::ModuleList<Affine> list;
    Affine& first = list.emplace_back();
    for (int i = 0; i < 20; ++i) list.emplace_back();
    CHECK(&first == &list[0]);
    CHECK(list.size() == 21);
    CHECK(list.named_parameters().back().name == "20.shift");
    CHECK_THROWS_AS(list[21], Error);
    size_t count = 0;
    for (Affine& module : list) count += module.training();
    CHECK(count == 21);
    CHECK(nn::ModuleList<Affine>().type_name() == "ModuleList");

    nn::Sequential functions;
    functions.push([](const Tensor& x) { return x * 2.0; }).push<Affine>();
    CHECK(functions(full({2}, 3.0)).to_vector<float>() == std::vector<float>{6.0f, 6.0f});
    CHECK(nn::Sequential()(full({1}, 3.0)).item<float>() == 3.0f);
  }
}
