// From the loader to Rust. The first CPU enters here, without translation: x0 = the device tree, or 0.
// The others are started later, at secondary.

        .section .text.boot, "ax"
        .globl  axvcpu_boot
axvcpu_boot:
        msr     daifset, #15
        mov     x19, x0
        // Until translation is on, memory is accessed past the caches: what they have of the image goes to memory.
        adrp    x0, __image_start
        adrp    x1, __image_end
        mrs     x2, ctr_el0
        ubfx    x2, x2, #16, #4         // DminLine, in words
        mov     x3, #4
        lsl     x3, x3, x2
1:      dc      civac, x0
        add     x0, x0, x3
        cmp     x0, x1
        b.lo    1b
        dsb     sy
        // Nothing is in .bss yet, the stack included. Both ends are page-aligned.
        adrp    x0, __bss_start
        adrp    x1, __bss_end
2:      cmp     x0, x1
        b.hs    3f
        stp     xzr, xzr, [x0], #16
        b       2b
3:      adrp    x0, {STACKS}
        add     x0, x0, :lo12:{STACKS}
        mov     x1, #{STACK_SIZE}
        add     sp, x0, x1
        mrs     x0, CurrentEL
        cmp     x0, #2 << 2
        b.eq    4f
        mov     x0, x19
        b       {NOT_EL2}
4:      adrp    x0, {CPUS}
        add     x0, x0, :lo12:{CPUS}
        msr     tpidr_el2, x0
        adrp    x0, {VECTORS}
        add     x0, x0, :lo12:{VECTORS}
        msr     vbar_el2, x0
        isb
        mov     x0, x19
        bl      {PREPARE}
        mov     x19, x0
        bl      translate
        mov     x0, x19
        b       {MAIN}

// Another CPU: x0 = its number here (DEN0022, 5.1.4: the context).
        .globl  axvcpu_boot_secondary
axvcpu_boot_secondary:
        msr     daifset, #15
        mov     x19, x0
        adrp    x0, {CPUS}
        add     x0, x0, :lo12:{CPUS}
        mov     x1, #{CPU_SIZE}
        madd    x0, x19, x1, x0
        msr     tpidr_el2, x0
        adrp    x0, {STACKS}
        add     x0, x0, :lo12:{STACKS}
        mov     x1, #{STACK_SIZE}
        add     x2, x19, #1
        madd    x0, x1, x2, x0
        mov     sp, x0
        adrp    x0, {VECTORS}
        add     x0, x0, :lo12:{VECTORS}
        msr     vbar_el2, x0
        bl      translate
        mov     x0, x19
        b       {SECONDARY}

// Switches translation on, with the caches. The settings were written to memory, not to caches.
translate:
        adrp    x9, {SETTINGS}
        add     x9, x9, :lo12:{SETTINGS}
        ldr     x10, [x9, #{HCR}]
        msr     hcr_el2, x10            // the others' layout depends on E2H
        isb
        ldr     x10, [x9, #{MAIR}]
        msr     mair_el2, x10
        ldr     x10, [x9, #{TCR}]
        msr     tcr_el2, x10
        ldr     x10, [x9, #{TTBR}]
        msr     ttbr0_el2, x10
        isb
        tlbi    alle2
        ic      iallu
        dsb     nsh
        isb
        ldr     x10, [x9, #{SCTLR}]
        msr     sctlr_el2, x10
        isb
        ret

// A trap of the hypervisor itself, which never means to take one: interrupts stay masked. What it was is told,
// on a stack of its own in case the other is the reason.
        .section .text.trap, "ax"
        .balign 2048
        .globl  axvcpu_host_vectors
axvcpu_host_vectors:
        .rept   16
        .balign 128
        b       trapped
        .endr
        .balign 128
trapped:
        mov     x3, sp
        mov     x4, x30
        mrs     x0, tpidr_el2
        ldr     x0, [x0, #{EMERGENCY_STACK}]
        mov     sp, x0
        mrs     x0, esr_el2
        mrs     x1, elr_el2
        mrs     x2, far_el2
        b       {TRAPPED}
