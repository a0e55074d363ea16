# Instructions that may trap, tried with a trap vector of our own. Host interrupts are masked. A trap taken here
# leaves hstatus.SPV clear and sstatus.SPP set, both of which mean nothing outside of a trap handler.

        .option push
        .option arch, +h

# One parcel of guest code. In: a0 = its guest virtual address, a1 = hstatus with the guest's privilege.
# Out: a0 = the parcel, a1 = 0; or a1 = not 0 if the guest's tables do not let it be fetched.
        .section .text.axvcpu_riscv64_fetch, "ax"
        .globl axvcpu_riscv64_fetch
        .balign 4
axvcpu_riscv64_fetch:
        lla     t0, 1f
        csrrw   t0, stvec, t0
        csrrw   t1, {CSR_HSTATUS}, a1
        li      a1, 1
        hlvx.hu a0, (a0)
        li      a1, 0
        .balign 4
1:      csrw    stvec, t0
        csrw    {CSR_HSTATUS}, t1
        ret

# Whether there is a CSR. The instruction that reads it is at a0. Out: a0 = its value, a1 = 0; or a1 = not 0.
        .section .text.axvcpu_riscv64_probe, "ax"
        .globl axvcpu_riscv64_probe
        .balign 4
axvcpu_riscv64_probe:
        mv      t2, ra
        lla     t0, 1f
        csrrw   t0, stvec, t0
        li      a1, 1
        jalr    ra, a0
        li      a1, 0
        .balign 4
1:      csrw    stvec, t0
        jr      t2

        .option pop
