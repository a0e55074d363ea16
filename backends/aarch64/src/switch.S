// Into the guest. It stands in the middle of the code that runs a vCPU (see switch.rs), which therefore keeps across it
// only what it needs. The guest's next trap goes to the vectors of vectors.S and comes back to the end of this.
//
// In: x0, the vCPU's Context. Out: x1..x6 = the guest's, x7 = its x0, x8 = ESR_EL2 or what came instead of it.
// Lost: every register but sp, x19 and x29, which the compiler cannot be told are lost.

        stp     x19, x29, [sp, #-16]!
        adr     x30, 2f
        stp     x0, x30, [sp, #-16]!            // for the vectors
        ldp     x1, x2, [x0, #{PC}]
        ldr     x3, [x0, #{GUEST_VECTORS}]
        msr     ELR_EL2, x1
        msr     SPSR_EL2, x2
        msr     VBAR_EL2, x3

        ldp     x2, x3, [x0, #16]
        ldp     x4, x5, [x0, #32]
        ldp     x6, x7, [x0, #48]
        ldp     x8, x9, [x0, #64]
        ldp     x10, x11, [x0, #80]
        ldp     x12, x13, [x0, #96]
        ldp     x14, x15, [x0, #112]
        ldp     x16, x17, [x0, #128]
        ldp     x18, x19, [x0, #144]
        ldp     x20, x21, [x0, #160]
        ldp     x22, x23, [x0, #176]
        ldp     x24, x25, [x0, #192]
        ldp     x26, x27, [x0, #208]
        ldp     x28, x29, [x0, #224]
        ldr     x30, [x0, #240]
        ldp     x0, x1, [x0]
        eret
        // Nothing behind it may be executed ahead of time.
        dsb     nsh
        isb
2:      ldp     x19, x29, [sp], #16
