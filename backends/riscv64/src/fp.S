# The guest's floating-point registers, into memory and back. In: a0 = [u64; 32] for f0..f31, then fcsr.
# The caller has switched the unit on. The host is built without it, so the registers are the guests' alone.

        .option push
        .option arch, +d

        .section .text.axvcpu_riscv64_fp_save, "ax"
        .globl axvcpu_riscv64_fp_save
axvcpu_riscv64_fp_save:
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        fsd     f\n, 8*\n(a0)
        .endr
        frcsr   t0
        sd      t0, 256(a0)
        ret

        .section .text.axvcpu_riscv64_fp_load, "ax"
        .globl axvcpu_riscv64_fp_load
axvcpu_riscv64_fp_load:
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        fld     f\n, 8*\n(a0)
        .endr
        ld      t0, 256(a0)
        fscsr   t0
        ret

        .option pop
