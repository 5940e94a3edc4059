// Module: the base of layers and models. It knows its parameters, buffers and children by name, in
// the order in which they were registered.
//
//   struct Mlp : nn::Module {
//     nn::Linear up{784, 256}, down{256, 10};
//     Mlp() { add("up", up); add("down", down); }
//     Tensor forward(const Tensor& x) { return down(relu(up(x))); }
//   };
//
// A Module stays where it was made: it cannot be copied or moved, so that its parent's reference to
// it holds. A function may still return one by value (`auto model = nn::models::Gpt2(config)`), and
// std::make_shared makes one that lives elsewhere.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <tendril/autograd/functions.h>
#include <tendril/core/named_tensor.h>

namespace tendril::nn {

struct LoadOptions {
  bool strict =
      true;  // missing and unexpected names are an Error; otherwise they are only reported
};

/// What load_state_dict found.
struct LoadReport {
  std::vector<std::string> missing;     // in the module, not in the given state
  std::vector<std::string> unexpected;  // the other way round
  std::vector<std::string> converted;   // loaded, but rounded or widened to the module's dtype
};

class TENDRIL_API Module {
 public:
  Module() = default;
  virtual ~Module();
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  // ---- building. Names are local: not empty, without '.', and unique within this module.

  /// Registers a child that is a member of the derived class (or otherwise outlives this module).
  void add(const std::string& name, Module& child);
  /// Registers a child and shares its ownership.
  void add(const std::string& name, std::shared_ptr<Module> child);
  /// Registers a floating-point leaf, marks it as requiring grad and returns it.
  Tensor add_parameter(const std::string& name, Tensor value);
  /// Registers a tensor that is state but not trained. One that is not persistent stays out of
  /// state_dict().
  Tensor add_buffer(const std::string& name, Tensor value, bool persistent = true);

  // ---- looking. A tensor reachable by several paths (a tied weight) appears once, under its first
  // name.

  std::vector<NamedTensor> named_parameters() const;
  std::vector<NamedTensor> named_buffers() const;
  std::vector<Tensor> parameters() const;
  /// The parameter of this dotted name, tied names included; Error when there is none.
  Tensor parameter(const std::string& name) const;
  /// Calls visit(dotted name, module) for this module (name "") and all below it, parents first.
  void for_each_module(const std::function<void(const std::string& name, Module& module)>& visit);
  /// Elements of all parameters, tied ones counted once.
  int64_t parameter_count(bool trainable_only = false) const;
  /// The class without namespaces, e.g. "Linear".
  virtual std::string type_name() const;

  // ---- changing, recursively

  /// Training mode, in which dropout drops; a new module is in it.
  void train(bool mode = true);
  void eval() { train(false); }
  bool training() const { return training_; }
  /// Converts floating-point parameters, their gradients and floating-point buffers. Handles held
  /// elsewhere (tied weights, an optimizer) follow, since they are the same tensors.
  void to(DType dtype);
  void to(Device device);
  /// Recompute activations in the backward pass instead of keeping them. Error for a model that
  /// does not know how.
  virtual void set_gradient_checkpointing(bool enabled);
  /// Forgets all gradients; grad() is undefined afterwards.
  void zero_grad();
  /// Freezes or unfreezes all parameters.
  void requires_grad_(bool value);

  // ---- state

  /// Parameters and persistent buffers, off the tape. They share memory with the module: clone to
  /// keep.
  StateDict state_dict() const;
  /// Copies the given numbers into the module, whose dtypes and devices stay. A tied weight may
  /// come under any of its names. All wrong shapes (and, when strict, all missing and unexpected
  /// names) are reported in one Error, and then nothing has been changed.
  LoadReport load_state_dict(const StateDict& state, const LoadOptions& options = {});

 private:
  struct Child {
    std::string name;
    Module* module;
    std::shared_ptr<Module> owner;  // null for a member of the derived class
  };
  struct Buffer {
    std::string name;
    Tensor tensor;
    bool persistent;
  };
  enum class Slot { parameter, buffer, transient_buffer };
  using SlotVisitor = std::function<void(const std::string& name, const Tensor& tensor, Slot slot)>;

  void check_new_name(const char* op, const std::string& name) const;
  bool reaches(const Module& other) const;
  void visit_modules(const std::string& prefix,
                     const std::function<void(const std::string&, Module&)>& visit);
  // Every parameter and buffer under every dotted name, tied ones repeatedly.
  void visit_tensors(const SlotVisitor& visit) const;
  void convert(const std::function<Tensor(const Tensor&)>& conversion);

  std::vector<NamedTensor> parameters_;
  std::vector<Buffer> buffers_;
  std::vector<Child> children_;
  bool training_ = true;
};

/// A table of all parameters and buffers: name, type of module, shape, dtype, count, trainable;
/// then totals.
TENDRIL_API std::string summary(const Module& module);

}  // namespace tendril::nn
