#include "engine/kvm/touch_program.h"

#include <cstddef>

namespace tdp {

extern "C" const uint8_t tdp_touch_program_start[];
extern "C" const uint8_t tdp_touch_program_end[];

// Registers, constant over the run:
//   rdi  the block               r9   frame_count
//   rsi  base_gpa                r10  state of the generator
//   r11  multiplier              r12  increment
//   r13  mask                    r14  hot_count
//   r15  cold_count              rbp  cold_start
// For each pass: r8 its number, rcx the touches (or steps) that are left.
// Scratch: rax, rbx, rdx.
//
// Each pattern exists twice, for reads and for writes, so that no loop asks
// which one it is. A touch reads into al or writes r8b.
asm(R"(
    .pushsection .rodata.tdp_touch_program, "a", @progbits
    .balign 16
    .globl tdp_touch_program_start
tdp_touch_program_start:
    movq 0x00(%rdi), %rsi
    movq 0x08(%rdi), %r9
    movq 0x28(%rdi), %r11
    movq 0x30(%rdi), %r12
    movq 0x38(%rdi), %r10
    movq 0x40(%rdi), %r13
    movq 0x48(%rdi), %r14
    movq 0x50(%rdi), %rbp
    movq 0x58(%rdi), %r15
    xorl %r8d, %r8d

.Ltdp_next_pass:
    cmpq 0x20(%rdi), %r8
    je .Ltdp_done
    incq %r8
    movq %r9, %rcx
    movq 0x10(%rdi), %rax
    cmpq $0, 0x18(%rdi)
    jne .Ltdp_writes
    cmpq $2, %rax
    jb .Ltdp_read_ascending
    je .Ltdp_read_shuffled
    cmpq $4, %rax
    jb .Ltdp_read_uniform
    jmp .Ltdp_read_hot_tenth
.Ltdp_writes:
    cmpq $2, %rax
    jb .Ltdp_write_ascending
    je .Ltdp_write_shuffled
    cmpq $4, %rax
    jb .Ltdp_write_uniform
    jmp .Ltdp_write_hot_tenth
.Ltdp_done:
    hlt
    jmp .Ltdp_done

    .macro touch kind, address:vararg
    .ifc \kind, write
    movb %r8b, \address
    .else
    movb \address, %al
    .endif
    incq 0x80(%rdi)
    .endm

    // state = state * multiplier + increment
    .macro step
    imulq %r11, %r10
    addq %r12, %r10
    .endm

    .macro patterns kind
.Ltdp_\kind\()_ascending:
    // Eight frames at a time, then the rest one by one.
    movq %rsi, %rbx
    movq %r9, %rdx
    andl $7, %edx
    shrq $3, %rcx
    jz .Ltdp_\kind\()_rest
.Ltdp_\kind\()_eight:
    touch \kind, (%rbx)
    touch \kind, 0x1000(%rbx)
    touch \kind, 0x2000(%rbx)
    touch \kind, 0x3000(%rbx)
    touch \kind, 0x4000(%rbx)
    touch \kind, 0x5000(%rbx)
    touch \kind, 0x6000(%rbx)
    touch \kind, 0x7000(%rbx)
    addq $0x8000, %rbx
    decq %rcx
    jnz .Ltdp_\kind\()_eight
.Ltdp_\kind\()_rest:
    testl %edx, %edx
    jz .Ltdp_next_pass
.Ltdp_\kind\()_one:
    touch \kind, (%rbx)
    addq $0x1000, %rbx
    decl %edx
    jnz .Ltdp_\kind\()_one
    jmp .Ltdp_next_pass

.Ltdp_\kind\()_shuffled:
    // One step for each number of the period; those that are no frame are
    // skipped. The period ends where it began, ready for the next pass.
    leaq 1(%r13), %rcx
.Ltdp_\kind\()_shuffled_step:
    cmpq %r9, %r10
    jae .Ltdp_\kind\()_shuffled_skip
    movq %r10, %rbx
    shlq $12, %rbx
    touch \kind, (%rsi, %rbx)
.Ltdp_\kind\()_shuffled_skip:
    step
    andq %r13, %r10
    decq %rcx
    jnz .Ltdp_\kind\()_shuffled_step
    jmp .Ltdp_next_pass

.Ltdp_\kind\()_uniform:
    step
    movq %r10, %rax
    mulq %r9
    shlq $12, %rdx
    touch \kind, (%rsi, %rdx)
    decq %rcx
    jnz .Ltdp_\kind\()_uniform
    jmp .Ltdp_next_pass

.Ltdp_\kind\()_hot_tenth:
    // The first decimal digit of the state chooses the part, the rest of it
    // the frame within.
    step
    movl $10, %eax
    mulq %r10
    testq %rdx, %rdx
    jz .Ltdp_\kind\()_cold
    mulq %r14
    jmp .Ltdp_\kind\()_hot_or_cold
.Ltdp_\kind\()_cold:
    mulq %r15
    addq %rbp, %rdx
.Ltdp_\kind\()_hot_or_cold:
    shlq $12, %rdx
    touch \kind, (%rsi, %rdx)
    decq %rcx
    jnz .Ltdp_\kind\()_hot_tenth
    jmp .Ltdp_next_pass
    .endm

    patterns read
    patterns write

    .purgem touch
    .purgem step
    .purgem patterns
    .globl tdp_touch_program_end
tdp_touch_program_end:
    .popsection
)");

absl::Span<const uint8_t> TouchProgramCode() {
  return absl::MakeConstSpan(
      tdp_touch_program_start,
      static_cast<size_t>(tdp_touch_program_end - tdp_touch_program_start));
}

}  // namespace tdp
