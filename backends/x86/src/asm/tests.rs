//! What a disassembler reads in what was assembled, and what the program does with labels and mistakes.

extern crate std;

use std::format;
use std::string::String;
use std::vec::Vec;

use iced_x86::{Decoder, DecoderOptions, Formatter, NasmFormatter};

use super::*;

const BASE: u64 = 0x10_0000;

/// The text of what was assembled. Whatever is no instruction is `(bad)`.
fn text(write: impl FnOnce(&mut Asm)) -> String {
    let mut a = Asm::new(BASE);
    write(&mut a);
    let code = a.finish().unwrap();
    let decoder = Decoder::with_ip(64, &code, BASE, DecoderOptions::NONE);
    let mut formatter = NasmFormatter::new();
    formatter.options_mut().set_space_after_operand_separator(true);
    formatter.options_mut().set_hex_prefix("0x");
    formatter.options_mut().set_hex_suffix("");
    formatter.options_mut().set_uppercase_hex(false);
    formatter.options_mut().set_branch_leading_zeros(false);
    formatter.options_mut().set_rip_relative_addresses(true);
    let lines = decoder.into_iter().map(|instruction| {
        let mut line = String::new();
        formatter.format(&instruction, &mut line);
        line
    });
    lines.collect::<Vec<_>>().join("; ")
}

type Known = (&'static str, fn(&mut Asm));

fn check(known: &[Known]) {
    let pairs = known.iter().map(|(expected, write)| (String::from(*expected), text(write)));
    let wrong: Vec<_> = pairs.filter(|(expected, found)| expected != found).collect();
    assert!(wrong.is_empty(), "expected and found: {wrong:#?}");
}

#[test]
fn data_moves() {
    check(&[
        ("mov rax, rbx", |a| a.mov(RAX, RBX)),
        ("mov r8d, edi", |a| a.mov(R8D, EDI)),
        ("mov cx, r15w", |a| a.mov(CX, R15W)),
        ("mov sil, r9b", |a| a.mov(SIL, R9B)),
        ("mov ah, bl", |a| a.mov(AH, BL)),
        ("mov [rsi+8], dh", |a| a.mov(mem(RSI) + 8, DH)),
        ("mov ax, [rbx]", |a| a.mov(AX, mem(RBX))),
        ("mov [rbx], r14", |a| a.mov(qword(RBX), R14)),
        ("mov byte [rax], 0xff", |a| a.mov(byte(RAX), 0xff)),
        ("mov word [rax], 0x1234", |a| a.mov(word(RAX), 0x1234)),
        ("mov dword [r13], 0xfedcba98", |a| a.mov(dword(R13), 0xfedc_ba98u32)),
        ("mov qword [r12], 0xffffffffffffffff", |a| a.mov(qword(R12), -1)),
        ("mov rdx, 0xffffffff80000000", |a| a.mov(RDX, i32::MIN)),
        ("mov ebp, 0x89abcdef", |a| a.li(RBP, 0x89ab_cdef)),
        ("mov r9, 0xfffffffffffffffe", |a| a.li(R9, u64::MAX - 1)),
        ("mov r9, 0x123456789abcdef0", |a| a.li(R9, 0x1234_5678_9abc_def0)),
        ("mov rax, 1", |a| a.movabs(RAX, 1)),
        ("movzx eax, byte [rdi]", |a| a.movzx(EAX, byte(RDI))),
        ("movzx r10, word [rdi]", |a| a.movzx(R10, word(RDI))),
        ("movzx cx, sil", |a| a.movzx(CX, SIL)),
        ("movsx rax, byte [r8]", |a| a.movsx(RAX, byte(R8))),
        ("movsx r8d, word [r8]", |a| a.movsx(R8D, word(R8))),
        ("movsxd r15, [rbp]", |a| a.movsxd(R15, mem(RBP))),
        ("movsxd rax, ecx", |a| a.movsxd(RAX, ECX)),
        ("mov al, [qword 0x123456789a]", |a| a.mov_from(AL, 0x12_3456_789a)),
        ("mov [qword 0x123456789a], rax", |a| a.mov_into(0x12_3456_789a, RAX)),
        ("mov ax, [qword 0x123456789a]", |a| a.mov_from(AX, 0x12_3456_789a)),
        ("push r12", |a| a.push(R12)),
        ("push rbx", |a| a.push(RBX)),
        ("push qword [rax+8]", |a| a.push(mem(RAX) + 8)),
        ("push 0xffffffff80000000", |a| a.push(i32::MIN)),
        ("pop rdi", |a| a.pop(RDI)),
        ("pop r8", |a| a.pop(R8)),
        ("pop qword [r9]", |a| a.pop(qword(R9))),
        ("movdqu xmm9, [rsi]", |a| a.movdqu_load(Xmm::new(9).unwrap(), mem(RSI))),
        ("movdqu [r8+0x10], xmm1", |a| a.movdqu_store(mem(R8) + 16, XMM1)),
        ("movq xmm0, [rsi]", |a| a.movq_load(XMM0, mem(RSI))),
        ("movq [rsi], xmm15", |a| a.movq_store(mem(RSI), Xmm::new(15).unwrap())),
        ("vmovdqu ymm12, [r13]", |a| a.vmovdqu_load(Xmm::new(12).unwrap(), R13)),
        ("vmovdqu [rsp], ymm1", |a| a.vmovdqu_store(RSP, XMM1)),
        ("vmovdqu [r12], ymm0", |a| a.vmovdqu_store(R12, XMM0)),
        ("ldmxcsr [rax]; stmxcsr [r9]", |a| {
            a.ldmxcsr(mem(RAX));
            a.stmxcsr(mem(R9));
        }),
        ("fninit; fld1; fldz; fld qword [rsi]; fstp qword [rdi]", |a| {
            a.fninit();
            a.fld1();
            a.fldz();
            a.fld(mem(RSI));
            a.fstp(mem(RDI));
        }),
    ]);
}

#[test]
fn arithmetic_and_exchanges() {
    check(&[
        ("add rax, rbx", |a| a.add(RAX, RBX)),
        ("or [rax], cl", |a| a.or(mem(RAX), CL)),
        ("adc r8w, [rax]", |a| a.adc(R8W, mem(RAX))),
        ("sbb ecx, 1", |a| a.sbb(ECX, 1)),
        ("and rdx, 0x12345678", |a| a.and(RDX, 0x1234_5678)),
        ("sub byte [rax], 7", |a| a.sub(byte(RAX), 7)),
        ("xor dil, 0x80", |a| a.xor(DIL, 0x80)),
        ("cmp word [r11], 0xffff", |a| a.cmp(word(R11), 0xffff)),
        ("cmp qword [r11], 0xffffffffffffff80", |a| a.cmp(qword(R11), -128)),
        ("add edi, 0x80", |a| a.add(EDI, 0x80)),
        ("and eax, 0xfffffffe", |a| a.and(EAX, 0xffff_fffeu32)),
        ("test al, 1", |a| a.test(AL, 1)),
        ("test [rsi], r9", |a| a.test(mem(RSI), R9)),
        ("test ecx, 0x100", |a| a.test(ECX, 0x100)),
        ("inc rax", |a| a.inc(RAX)),
        ("inc dword [rax]", |a| a.inc(dword(RAX))),
        ("dec r9b", |a| a.dec(R9B)),
        ("not cx", |a| a.not(CX)),
        ("neg qword [rsp]", |a| a.neg(qword(RSP))),
        ("mul rbx", |a| a.mul(RBX)),
        ("div cl", |a| a.div(CL)),
        ("shl rax, 0x3f", |a| a.shl(RAX, 63)),
        ("shr byte [rax], 1", |a| a.shr(byte(RAX), 1)),
        ("sar r8d, 2", |a| a.sar(R8D, 2)),
        ("setne r9b", |a| a.setcc(Cond::Ne, R9B)),
        ("setg [rax]", |a| a.setcc(Cond::G, byte(RAX))),
        ("xchg ecx, [rax]", |a| a.xchg(mem(RAX), ECX)),
        ("cmpxchg [rax], r8", |a| a.cmpxchg(mem(RAX), R8)),
        ("cmpxchg [rax], sil", |a| a.cmpxchg(mem(RAX), SIL)),
        ("lock cmpxchg [rax], cx", |a| a.lock().cmpxchg(mem(RAX), CX)),
        ("lock xadd [r10], r11d", |a| a.lock().xadd(mem(R10), R11D)),
        ("lock inc qword [rbx]", |a| a.lock().inc(qword(RBX))),
        ("lock add [rbx], dl", |a| a.lock().add(mem(RBX), DL)),
    ]);
}

#[test]
fn strings_and_ports() {
    check(&[
        ("movsb; movsw; movsd; movsq", |a| {
            a.movsb();
            a.movsw();
            a.movsd();
            a.movsq();
        }),
        ("rep stosb; rep stosw; rep stosd; rep stosq", |a| {
            a.rep().stosb();
            a.rep().stosw();
            a.rep().stosd();
            a.rep().stosq();
        }),
        ("lodsb; lodsw; lodsd; lodsq", |a| {
            a.lodsb();
            a.lodsw();
            a.lodsd();
            a.lodsq();
        }),
        ("insb; rep insw; rep insd", |a| {
            a.insb();
            a.rep().insw();
            a.rep().insd();
        }),
        ("rep outsb; rep outsw; outsd", |a| {
            a.rep().outsb();
            a.rep().outsw();
            a.outsd();
        }),
        ("cld; std", |a| {
            a.cld();
            a.std();
        }),
        ("in al, 0x60", |a| a.in_imm(AL, 0x60)),
        ("in ax, 0xff", |a| a.in_imm(AX, 0xff)),
        ("in eax, 1", |a| a.in_imm(EAX, 1)),
        ("in al, dx; in ax, dx; in eax, dx", |a| {
            a.in_dx(AL);
            a.in_dx(AX);
            a.in_dx(EAX);
        }),
        ("out 0x60, al; out 0x60, ax; out 0x60, eax", |a| {
            a.out_imm(0x60, AL);
            a.out_imm(0x60, AX);
            a.out_imm(0x60, EAX);
        }),
        ("out dx, al; out dx, ax; out dx, eax", |a| {
            a.out_dx(AL);
            a.out_dx(AX);
            a.out_dx(EAX);
        }),
    ]);
}

#[test]
fn systems() {
    check(&[
        ("cli; sti; hlt; iretq; syscall; o64 sysret; swapgs", |a| {
            a.cli();
            a.sti();
            a.hlt();
            a.iretq();
            a.syscall();
            a.sysretq();
            a.swapgs();
        }),
        ("rdmsr; wrmsr; xgetbv; xsetbv; vmcall; vmmcall; clts; wbinvd", |a| {
            a.rdmsr();
            a.wrmsr();
            a.xgetbv();
            a.xsetbv();
            a.vmcall();
            a.vmmcall();
            a.clts();
            a.wbinvd();
        }),
        ("cpuid; rdtsc; pushf; popf; int3; int 0x80; ud2; nop; pause; mfence", |a| {
            a.cpuid();
            a.rdtsc();
            a.pushfq();
            a.popfq();
            a.int3();
            a.int(0x80);
            a.ud2();
            a.nop();
            a.pause();
            a.mfence();
        }),
        ("sgdt [rax]", |a| a.sgdt(mem(RAX))),
        ("sidt [r8]", |a| a.sidt(mem(R8))),
        ("lgdt [rbx+2]", |a| a.lgdt(mem(RBX) + 2)),
        ("lidt [rsp]", |a| a.lidt(mem(RSP))),
        ("invlpg [r14]", |a| a.invlpg(mem(R14))),
        ("ltr cx", |a| a.ltr(CX)),
        ("ltr [rax]", |a| a.ltr(word(RAX))),
        ("mov ds, eax", |a| a.mov_to_seg(Seg::Ds, AX)),
        ("mov ecx, gs", |a| a.mov_from_seg(CX, Seg::Gs)),
        ("mov cr3, rax", |a| a.mov_to_cr(3, RAX)),
        ("mov r9, cr4", |a| a.mov_from_cr(R9, 4)),
        ("mov cr8, rdi", |a| a.mov_to_cr(8, RDI)),
        ("mov dr7, r10", |a| a.mov_to_dr(7, R10)),
        ("mov rbx, dr0", |a| a.mov_from_dr(RBX, 0)),
    ]);
}

#[test]
fn flow() {
    check(&[
        ("jmp 0x100000", |a| {
            let here = a.here_label();
            a.jmp(here);
        }),
        ("jmp short 0x100003; nop; nop", |a| {
            let there = a.label();
            a.jmp_short(there);
            a.nop();
            a.bind(there);
            a.nop();
        }),
        ("je near 0x100008; jae short 0x100006; nop", |a| {
            let (one, other) = (a.label(), a.label());
            a.jcc(Cond::E, one);
            a.bind(other);
            a.jcc_short(Cond::Ae, other);
            a.bind(one);
            a.nop();
        }),
        ("call 0x100006; nop; ret", |a| {
            let function = a.label();
            a.call(function);
            a.nop();
            a.bind(function);
            a.ret();
        }),
        ("call rax; call qword [r12]; jmp r9; jmp qword [rbx+8]; retfq", |a| {
            a.call_at(RAX);
            a.call_at(mem(R12));
            a.jmp_at(R9);
            a.jmp_at(mem(RBX) + 8);
            a.retfq();
        }),
    ]);
    let names = [
        "jo", "jno", "jb", "jae", "je", "jne", "jbe", "ja", "js", "jns", "jp", "jnp", "jl", "jge",
        "jle", "jg",
    ];
    use Cond::*;
    let all = [O, No, B, Ae, E, Ne, Be, A, S, Ns, P, Np, L, Ge, Le, G];
    for (cond, name) in all.into_iter().zip(names) {
        let found = text(|a| {
            let here = a.here_label();
            a.jcc_short(cond, here);
            a.jcc(cond, here);
        });
        assert_eq!(found, format!("{name} short 0x100000; {name} near 0x100000"));
    }
}

/// All registers of a width, with the names that the disassembler has for them.
fn registers(width: Width) -> impl Iterator<Item = (Reg, String)> {
    let names: [&str; 8] = match width {
        Width::Byte => ["al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil"],
        Width::Word => ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"],
        Width::Dword => ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"],
        Width::Qword => ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"],
    };
    let suffix = ["b", "w", "d", ""][width as usize];
    (0..16).map(move |number| {
        let name = match names.get(usize::from(number)) {
            Some(&name) => name.into(),
            None => format!("r{number}{suffix}"),
        };
        (Reg::new(number, width).unwrap(), name)
    })
}

#[test]
fn every_register_in_every_place() {
    for width in Width::ALL {
        for (one, name) in registers(width) {
            for (other, other_name) in registers(width) {
                let found = text(|a| a.mov(one, other));
                assert_eq!(found, format!("mov {name}, {other_name}"));
            }
            for (base, base_name) in registers(Width::Qword) {
                let found = text(|a| {
                    a.mov(one, mem(base));
                    a.xchg(mem(base), one);
                });
                assert_eq!(found, format!("mov {name}, [{base_name}]; xchg {name}, [{base_name}]"));
            }
            assert_eq!(text(|a| a.inc(one)), format!("inc {name}"));
            if width != Width::Qword {
                continue;
            }
            let found = text(|a| {
                a.push(one);
                a.pop(one);
                a.call_at(one);
                a.mov_to_cr(2, one);
                a.movabs(one, 1 << 63);
            });
            assert_eq!(
                found,
                format!(
                    "push {name}; pop {name}; call {name}; mov cr2, {name}; mov {name}, \
                     0x8000000000000000"
                )
            );
        }
    }
    for (high, name) in [(AH, "ah"), (CH, "ch"), (DH, "dh"), (BH, "bh")] {
        let found = text(|a| {
            a.mov(high, mem(RSI));
            a.mov(mem(RSI), high);
            a.mov(high, 5);
        });
        assert_eq!(found, format!("mov {name}, [rsi]; mov [rsi], {name}; mov {name}, 5"));
    }
}

#[test]
fn every_form_of_address() {
    let bases = || registers(Width::Qword);
    let shown = |disp: i32| match disp {
        0 => String::new(),
        1..10 => format!("+{disp}"),
        10.. => format!("+{disp:#x}"),
        -9..0 => format!("-{}", -disp),
        _ => format!("-{:#x}", disp.unsigned_abs()),
    };
    for disp in [0, 1, 127, 128, -1, -128, -129, 0x1234_5678, i32::MIN + 1, i32::MAX] {
        let disp_text = shown(disp);
        for (base, name) in bases() {
            let found = text(|a| a.mov(mem(base) + disp, ECX));
            assert_eq!(found, format!("mov [{name}{disp_text}], ecx"));
            for (index, index_name) in bases().filter(|(index, _)| *index != RSP) {
                for (scale, scale_text) in [(1, ""), (2, "*2"), (4, "*4"), (8, "*8")] {
                    let found = text(|a| a.mov(R9B, mem(base).index(index, scale) + disp));
                    let expected = format!("mov r9b, [{name}+{index_name}{scale_text}{disp_text}]");
                    assert_eq!(found, expected);
                }
            }
        }
    }
    check(&[
        ("mov eax, [0x12345678]", |a| a.mov(EAX, abs(0x1234_5678))),
        ("mov eax, [r9*8+0x10]", |a| a.mov(EAX, abs(16).index(R9, 8))),
        ("mov r8, [gs:rax+8]", |a| a.mov(R8, (mem(RAX) + 8).segment(Seg::Gs))),
        ("mov [fs:0x10], al", |a| a.mov(abs(16).segment(Seg::Fs), AL)),
        ("mov al, [eax+r9d*2]", |a| a.mov(AL, mem(EAX).index(R9D, 2))),
        ("mov al, [esp]", |a| a.mov(AL, mem(ESP))),
        ("lea r8, [rax+rcx*4+0x10]", |a| a.lea(R8, mem(RAX).index(RCX, 4) + 16)),
        ("lea ecx, [r13]", |a| a.lea(ECX, mem(R13))),
    ]);
}

#[test]
fn labels_are_relative_and_in_data_absolute() {
    let found = text(|a| {
        let data = a.label();
        a.lea(RAX, rip(data));
        a.mov(rip(data), CL);
        a.mov(rip(data).of(Width::Dword) + 4, 7);
        a.add(rip(data).of(Width::Qword), 1);
        a.bind(data);
    });
    assert_eq!(
        found,
        "lea rax, [rip+0x18]; mov [rip+0x12], cl; mov dword [rip+0xc], 7; add qword [rip], 1"
    );
    let mut a = Asm::new(BASE);
    let label = a.label();
    a.quad_label(label);
    a.bind(label);
    assert_eq!(a.finish().unwrap(), (BASE + 8).to_le_bytes());
}

#[test]
fn mistakes_are_reported() {
    let mistake = |write: fn(&mut Asm)| {
        let mut a = Asm::new(BASE);
        a.nop();
        write(&mut a);
        a.ud2();
        a.finish()
    };
    let refused: &[Known] = &[
        ("mov", |a| a.mov(RAX, EBX)),
        ("mov", |a| a.mov(dword(RAX), RBX)),
        ("mov", |a| a.mov(mem(RAX), 1)),
        ("mov", |a| a.mov(mem(RAX), mem(RBX))),
        ("mov", |a| a.mov(RAX, 0x8000_0000u32)),
        ("mov", |a| a.mov(AL, 256)),
        ("mov", |a| a.mov(AX, -32769)),
        ("li", |a| a.li(EAX, 1)),
        ("add", |a| a.add(mem(RAX), 1)),
        ("add", |a| a.add(AX, mem(RAX).of(Width::Byte))),
        ("inc", |a| a.inc(mem(RAX))),
        ("movzx", |a| a.movzx(AL, byte(RAX))),
        ("movzx", |a| a.movzx(EAX, dword(RAX))),
        ("movsx", |a| a.movsx(EAX, mem(RAX))),
        ("movsxd", |a| a.movsxd(EAX, mem(RAX))),
        ("test", |a| a.test(RAX, mem(RAX))),
        ("push", |a| a.push(EAX)),
        ("push", |a| a.push(1i64 << 40)),
        ("pop", |a| a.pop(word(RAX))),
        ("in", |a| a.in_dx(RAX)),
        ("out", |a| a.out_dx(CL)),
        ("call_at", |a| a.call_at(EAX)),
        ("setcc", |a| a.setcc(Cond::E, EAX)),
        ("lea", |a| a.lea(AL, mem(RAX))),
        ("mov_from", |a| a.mov_from(CL, 0)),
        ("vmovdqu", |a| a.vmovdqu_load(XMM0, EAX)),
        ("mov", |a| a.mov_to_cr(16, RAX)),
        ("mov", |a| a.mov_to_cr(0, EAX)),
    ];
    for (name, write) in refused {
        assert_eq!(mistake(*write), Err(AsmError::Operand { at: 1, name }), "{name}");
    }
    // These are noticed behind a prefix or at the address.
    let somewhere: &[fn(&mut Asm)] = &[
        |a| a.mov(AH, SIL),
        |a| a.mov(AH, mem(R8)),
        |a| a.mov(R8B, BH),
        |a| a.mov(EAX, mem(RAX).index(RSP, 1)),
        |a| a.mov(EAX, mem(RAX).index(RCX, 3)),
        |a| a.mov(EAX, mem(RAX).index(ECX, 1)),
        |a| a.mov(EAX, mem(AX)),
        |a| {
            let here = a.here_label();
            a.mov(EAX, rip(here).index(RCX, 1));
        },
    ];
    for write in somewhere {
        let found = mistake(*write);
        assert!(matches!(found, Err(AsmError::Operand { name: "mov", .. })), "{found:?}");
    }
    let far = |a: &mut Asm| {
        let label = a.here_label();
        a.zero(126);
        a.jmp_short(label);
        a.zero(1);
        a.jmp_short(label);
    };
    assert_eq!(mistake(far), Err(AsmError::Distance { at: 131, distance: -130 }));
    let unbound = |a: &mut Asm| {
        let nowhere = a.label();
        a.jmp(nowhere);
    };
    assert_eq!(mistake(unbound), Err(AsmError::Unbound { at: 2 }));
}
