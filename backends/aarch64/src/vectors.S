// Where exceptions go while a guest runs (Arm ARM, D1.3.4 "Vector tables"). What switch.S has left on the stack: the
// vCPU's Context and where to go on.
//
// \cause: what is told in x8, or nothing if it is ESR_EL2.

        .macro  from_guest cause
        .balign 128
        stp     x0, x1, [sp, #-16]!
        ldr     x0, [sp, #16]
        stp     x2, x3, [x0, #16]
        stp     x4, x5, [x0, #32]
        stp     x6, x7, [x0, #48]
        stp     x8, x9, [x0, #64]
        stp     x10, x11, [x0, #80]
        stp     x12, x13, [x0, #96]
        stp     x14, x15, [x0, #112]
        stp     x16, x17, [x0, #128]
        stp     x18, x19, [x0, #144]
        stp     x20, x21, [x0, #160]
        stp     x22, x23, [x0, #176]
        stp     x24, x25, [x0, #192]
        stp     x26, x27, [x0, #208]
        stp     x28, x29, [x0, #224]
        str     x30, [x0, #240]
        ldr     x7, [sp], #16
        stp     x7, x1, [x0]
        mrs     x9, ELR_EL2
        mrs     x10, SPSR_EL2
        ldr     x11, [x0, #{HOST_VECTORS}]
        stp     x9, x10, [x0, #{PC}]
        msr     VBAR_EL2, x11
        .ifb    \cause
        mrs     x8, ESR_EL2
        .else
        movz    x8, #\cause, lsl #48
        .endif
        ldp     x0, x30, [sp], #16
        ret
        .endm

// An exception of the host's own, in the few instructions between the two worlds: goes where the host wants it, \offset bytes into
// its table, with everything as it was but x0.
        .macro  from_host offset
        .balign 128
        adrp    x0, {HOST_VBAR}
        ldr     x0, [x0, :lo12:{HOST_VBAR}]
        msr     VBAR_EL2, x0
        isb
        add     x0, x0, #\offset
        br      x0
        .endm

        .section .text.axvcpu_aarch64_vectors, "ax"
        .balign 2048
        .globl  axvcpu_aarch64_vectors
axvcpu_aarch64_vectors:
        .irp    offset, 0,0x80,0x100,0x180,0x200,0x280,0x300,0x380
        from_host \offset
        .endr
        from_guest
        from_guest {INTERRUPT}
        from_guest {INTERRUPT}
        from_guest {SERROR}
        // From AArch32, which guests are not told of.
        from_guest
        from_guest {INTERRUPT}
        from_guest {INTERRUPT}
        from_guest {SERROR}
