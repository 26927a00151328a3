# Every forwarder puts its number into r11 and jumps here. r11 and rax hold no argument of a C++ function. The jump leaves arguments and
# stack as the caller made them, so that functions of any signature are forwarded, and exceptions pass.
    .text
    .p2align 4
    .type magr_dispatch_forward, @function
magr_dispatch_forward:
    .cfi_startproc
    movq magr_dispatch_chosen(%rip), %rax
    testq %rax, %rax
    je .Lmagr_dispatch_first_call
    jmp *(%rax,%r11,8)

# Chooses the set, with all registers saved that may hold an argument. If that throws, the exception passes to the caller of the forwarder.
.Lmagr_dispatch_first_call:
    pushq %rbp
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbp, 0
    movq %rsp, %rbp
    .cfi_def_cfa_register %rbp
    subq $192, %rsp
    movq %rdi, (%rsp)
    movq %rsi, 8(%rsp)
    movq %rdx, 16(%rsp)
    movq %rcx, 24(%rsp)
    movq %r8, 32(%rsp)
    movq %r9, 40(%rsp)
    movq %r10, 48(%rsp)
    movq %r11, 56(%rsp)
    movups %xmm0, 64(%rsp)
    movups %xmm1, 80(%rsp)
    movups %xmm2, 96(%rsp)
    movups %xmm3, 112(%rsp)
    movups %xmm4, 128(%rsp)
    movups %xmm5, 144(%rsp)
    movups %xmm6, 160(%rsp)
    movups %xmm7, 176(%rsp)
    call magr_dispatch_choose
    movq (%rsp), %rdi
    movq 8(%rsp), %rsi
    movq 16(%rsp), %rdx
    movq 24(%rsp), %rcx
    movq 32(%rsp), %r8
    movq 40(%rsp), %r9
    movq 48(%rsp), %r10
    movq 56(%rsp), %r11
    movups 64(%rsp), %xmm0
    movups 80(%rsp), %xmm1
    movups 96(%rsp), %xmm2
    movups 112(%rsp), %xmm3
    movups 128(%rsp), %xmm4
    movups 144(%rsp), %xmm5
    movups 160(%rsp), %xmm6
    movups 176(%rsp), %xmm7
    leave
    .cfi_def_cfa %rsp, 8
    .cfi_restore %rbp
    jmp *(%rax,%r11,8)
    .cfi_endproc
    .size magr_dispatch_forward, . - magr_dispatch_forward

    .macro magr_forward binding, name, number
    .\binding \name
    .type \name, @function
\name:
    .cfi_startproc
    endbr64
    movl $\number, %r11d
    jmp magr_dispatch_forward
    .cfi_endproc
    .size \name, . - \name
    .endm
