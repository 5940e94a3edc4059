#include "contexts.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#include "sanitizers.h"

// emulated_switch(void** save, void* load): pushes what a call preserves, leaves the stack pointer
// in *save, takes the other stack and pops. A new stack holds the address of its entry instead of
// a return address, and zeros for the registers. It jumps instead of returning: the processor would
// predict a return to the caller.
extern "C" void emulated_switch(void** save, void* load);
#if defined(__x86_64__)
asm(R"(
.text
.p2align 4
.type emulated_switch, @function
.hidden emulated_switch
.globl emulated_switch
emulated_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
.size emulated_switch, .-emulated_switch
)");
constexpr size_t kEntryWord = 6;   // above the six registers
constexpr size_t kFrameWords = 8;  // and the word above, so that the entry sees the stack of a call
#elif defined(__aarch64__)
asm(R"(
.text
.p2align 4
.type emulated_switch, %function
.hidden emulated_switch
.globl emulated_switch
emulated_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size emulated_switch, .-emulated_switch
)");
constexpr size_t kEntryWord = 11;  // x30
constexpr size_t kFrameWords = 20;
#else
#error \
    "The emulated GPU switches stacks on x86-64 and AArch64 only; configure with -DTENDRIL_CUDA=OFF."
#endif

namespace emulated {
namespace {

constexpr size_t kStackBytes = 256 * 1024;  // reserved; what kernels touch is a page or two
constexpr size_t kGuardBytes = 64 * 1024;   // a whole page, whatever its size

// Stacks lie a power of two apart: without offsets their ends would share a few lines of the
// caches.
constexpr size_t kOffset = 832, kOffsets = 32 * 1024;

#ifdef EMULATED_ADDRESS_SANITIZER
thread_local Context* left = nullptr;  // by the switch under way
#endif

}  // namespace

Context::~Context() {
  if (!stack_) return;
  allow(stack_, kStackBytes);
  munmap(stack_ - kGuardBytes, kGuardBytes + kStackBytes);
}

void Context::prepare(void (*entry)(), size_t number) {
  if (!stack_) {
    void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    mprotect(memory, kGuardBytes, PROT_NONE);
    stack_ = static_cast<unsigned char*>(memory) + kGuardBytes;
    bottom_ = stack_;
    size_ = kStackBytes;
  }
  allow(stack_, kStackBytes);
  fake_stack_ = nullptr;
  unsigned char* top = stack_ + kStackBytes - number * kOffset % kOffsets;
  auto* frame = reinterpret_cast<uintptr_t*>(top) - kFrameWords;
  for (size_t i = 0; i < kFrameWords; ++i) frame[i] = 0;
  frame[kEntryWord] = reinterpret_cast<uintptr_t>(entry);
  stack_pointer_ = frame;
}

void Context::switch_to(Context& from, Context& to) {
#ifdef EMULATED_ADDRESS_SANITIZER
  left = &from;
  __sanitizer_start_switch_fiber(&from.fake_stack_, to.bottom_, to.size_);
  emulated_switch(&from.stack_pointer_, to.stack_pointer_);
  __sanitizer_finish_switch_fiber(from.fake_stack_, &left->bottom_, &left->size_);
#else
  emulated_switch(&from.stack_pointer_, to.stack_pointer_);
#endif
}

void Context::entered() {
#ifdef EMULATED_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(nullptr, &left->bottom_, &left->size_);
#endif
}

}  // namespace emulated
