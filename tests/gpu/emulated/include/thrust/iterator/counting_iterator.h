// A sequence first, first + 1, ... that is not stored anywhere.
#pragma once

#include <cstddef>

namespace thrust {

template <class T>
class counting_iterator {
 public:
  explicit counting_iterator(T first) : value_(first) {}
  T operator*() const { return value_; }
  T operator[](ptrdiff_t i) const { return static_cast<T>(value_ + static_cast<T>(i)); }
  counting_iterator operator+(ptrdiff_t i) const { return counting_iterator((*this)[i]); }

 private:
  T value_;
};

template <class T>
counting_iterator<T> make_counting_iterator(T first) {
  return counting_iterator<T>(first);
}

}  // namespace thrust
