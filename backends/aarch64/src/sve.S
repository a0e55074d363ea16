// The guest's scalable vector and predicate registers, into memory and back, and FPCR and FPSR with them. In: x0 = 32
// vector registers, then 16 predicates and FFR, of this CPU's sizes; x1 = FPCR and FPSR. The caller has switched the unit on.

        .arch_extension sve

        .section .text.axvcpu_aarch64_sve_save, "ax"
        .globl  axvcpu_aarch64_sve_save
axvcpu_aarch64_sve_save:
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        str     z\n, [x0, #\n, mul vl]
        .endr
        addvl   x0, x0, #16
        addvl   x0, x0, #16
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        str     p\n, [x0, #\n, mul vl]
        .endr
        rdffr   p0.b
        str     p0, [x0, #16, mul vl]
        ldr     p0, [x0]
        mrs     x2, FPCR
        mrs     x3, FPSR
        stp     x2, x3, [x1]
        ret

        .section .text.axvcpu_aarch64_sve_load, "ax"
        .globl  axvcpu_aarch64_sve_load
axvcpu_aarch64_sve_load:
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        ldr     z\n, [x0, #\n, mul vl]
        .endr
        addvl   x0, x0, #16
        addvl   x0, x0, #16
        ldr     p0, [x0, #16, mul vl]
        wrffr   p0.b
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        ldr     p\n, [x0, #\n, mul vl]
        .endr
        ldp     x2, x3, [x1]
        msr     FPCR, x2
        msr     FPSR, x3
        ret

// The bytes of a vector register, as the current exception level has them.
        .section .text.axvcpu_aarch64_sve_size, "ax"
        .globl  axvcpu_aarch64_sve_size
axvcpu_aarch64_sve_size:
        rdvl    x0, #1
        ret

        .arch_extension nosve
