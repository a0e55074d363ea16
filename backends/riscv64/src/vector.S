# The guest's vector registers, into memory and back. In: a0 = [u64; 5] for vstart, vcsr, vl, vtype and a spare
# word, a1 = memory for v0..v31. The caller has switched the unit on.

        .option push
        .option arch, +v

        .section .text.axvcpu_riscv64_vector_save, "ax"
        .globl axvcpu_riscv64_vector_save
axvcpu_riscv64_vector_save:
        csrr    t0, vstart
        sd      t0, 0(a0)
        csrr    t0, vcsr
        sd      t0, 8(a0)
        csrr    t0, vl
        sd      t0, 16(a0)
        csrr    t0, vtype
        sd      t0, 24(a0)
        # Whole-register stores begin at vstart.
        csrw    vstart, zero
        csrr    t0, vlenb
        slli    t0, t0, 3
        vs8r.v  v0, (a1)
        add     a1, a1, t0
        vs8r.v  v8, (a1)
        add     a1, a1, t0
        vs8r.v  v16, (a1)
        add     a1, a1, t0
        vs8r.v  v24, (a1)
        ret

        .section .text.axvcpu_riscv64_vector_load, "ax"
        .globl axvcpu_riscv64_vector_load
axvcpu_riscv64_vector_load:
        csrw    vstart, zero
        csrr    t0, vlenb
        slli    t0, t0, 3
        vl8re8.v v0, (a1)
        add     a1, a1, t0
        vl8re8.v v8, (a1)
        add     a1, a1, t0
        vl8re8.v v16, (a1)
        add     a1, a1, t0
        vl8re8.v v24, (a1)
        # vl and vtype are read-only but for this. An illegal vtype comes out as it went in: vill.
        ld      t0, 16(a0)
        ld      t1, 24(a0)
        vsetvl  zero, t0, t1
        ld      t0, 8(a0)
        csrw    vcsr, t0
        ld      t0, 0(a0)
        csrw    vstart, t0
        ret

        .option pop
