// Modules of one type, numbered.
#pragma once

#include <deque>
#include <string>
#include <utility>

#include <tendril/nn/module.h>

namespace tendril::nn {

///   nn::ModuleList<Block> blocks;
///   for (int i = 0; i < 12; ++i) blocks.emplace_back(config);
///   for (Block& block : blocks) x = block(x);
///
/// Children are named "0", "1", ... References stay valid when more are added.
template <class M>
class ModuleList : public Module {
 public:
  template <class... Arguments>
  M& emplace_back(Arguments&&... arguments) {
    M& module = modules_.emplace_back(std::forward<Arguments>(arguments)...);
    add(std::to_string(modules_.size() - 1), module);
    return module;
  }

  size_t size() const { return modules_.size(); }
  M& operator[](size_t i) { return checked(*this, i); }
  const M& operator[](size_t i) const { return checked(*this, i); }
  auto begin() { return modules_.begin(); }
  auto end() { return modules_.end(); }
  auto begin() const { return modules_.begin(); }
  auto end() const { return modules_.end(); }

 private:
  template <class List>
  static auto& checked(List& list, size_t i) {
    TENDRIL_CHECK(i < list.modules_.size(), "[ModuleList] index ", i, " is out of range; got ",
                  list.modules_.size(), " modules");
    return list.modules_[i];
  }

  std::deque<M> modules_;
};

}  // namespace tendril::nn
