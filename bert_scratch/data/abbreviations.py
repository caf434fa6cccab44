"""The words that `sentences` knows: abbreviations by what may follow them, and sentence starters.

Keys are lower-case and without the last full stop; `z.b` stands for `z.B.` and `z. B.`.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Never the last word of a sentence: titles, and words that announce something.
NEVER_LAST = _words(
    """
    mr mrs ms messrs dr drs prof rev hon gen col sgt capt cpt lt cmdr adm maj gov sen rep pres supt
    st ste mt ft fr vs viz cf e.g i.e eg ie approx esp resp incl dept ed eds trans repr
    wm thos chas geo jas jos lieut mts mons
    gegr verh hrsg bearb verf dipl h.c o.g
    gral cnel avda exc exmo profa ilmo dott.ssa avv ks płk mjr bł abp bp inż
    mme mmes mlle mlles mgr z.b d.h u.a o.ä s.o s.u hrn bzw vgl sog ggf evtl inkl
    zzgl ca geb gest hl abb tab sra srta sres dña sta sto dra v.gr ee dott sig prof.ssa
    c.-à-d p.ex tj tzn św im
    env av т.е т.к т.н т.о им ул пр пер проф акад ген св тов гр см ср напр
    डॉ श्री प्रो कु श्रीमती पं ড মো মোঃ திரு திருமதி κ.κ κος δρ βλ π.χ δηλ
    """
)
# The same, but only when written in capitals (Vietnamese titles, Spanish EE. UU.).
NEVER_LAST_IN_CAPITALS = _words("TS GS PGS BS TP ĐH EE")
# The last word of a sentence only when what follows looks like the start of one.
MAYBE_LAST = _words(
    """
    inc ltd co corp bros jr sr al v u.s u.k u.n u.s.a a.m p.m b.c a.d b.c.e c.e ph.d m.d b.a m.a
    e.u mon tue tues wed thu thurs fri usw ü chr u.s.w ff jh jhd ee.uu s.a s.l a.c d.c ud uds
    vd vds usd gmbh ag kg mio mrd std min ecc itd itp vb brig jun lic ing eng arch geom hr ur
    zm np ul
    г гг в вв т.д т.п др пр р руб коп тыс млн млрд экз ред н.э км кг м кв
    κ κ.ά κτλ κ.λπ μ.χ
    """
)
# An abbreviation only before a number.
BEFORE_NUMBER = _words(
    """
    no nos fig figs vol vols ch chap sec sect pp p pt pts eq eqs art arts tel sat sun
    nr núm num pág págs pag pagg tav cap abb kap bd s f h t m r ok
    jan feb mar apr jun jul aug sep sept oct nov dec n nº abs ziff tab
    b c d рис стр ред экз гл табл ст п с ф оп кн тел корп № σελ άρθ αρ κεφ
    """
)
# German words before an ordinal, as in "am 3. Mai".
BEFORE_ORDINAL = _words("am im vom zum zur der die das dem den des ab bis seit jeder jede jedes")
STARTERS = _words(
    """
    the a an this that these those he she it we they you i his her its their our my in on at for
    from by with as when while after before since if although though but and or so yet then there
    here however what who why how which where no not all some many most one two both each other
    another such to during under over between among within despite because until once even only
    later today meanwhile moreover furthermore thus therefore instead finally first second
    nobody nothing everybody everyone everything somebody someone perhaps maybe did does is was
    were are have has had will would can could should do let us
    der die das ein eine er sie es wir ihr ich im am zum zur bei mit nach von vor auf aus für
    diese dieser dieses wenn als aber und doch auch so da dann damit dabei hier man niemand
    seine sein seit später warum wer wie was heute
    le la les un une il elle ils elles nous vous je ce cette ces dans en au aux pour par avec
    mais et ou donc puis si quand selon après avant depuis sa son ses leur pourquoi personne
    el los las una unos ella ellos nosotros yo este esta estos ese del al para por con pero y
    cuando según después antes desde también su sus nadie
    il lo gli uno egli essa essi noi voi nel nella dal dalla ma perché quando dopo
    o os as um uma ele ela eles elas nós no na nos nas do da mas depois quando
    on ona ono oni my wy w we na po przed ale i jego jej kto czy potem
    он она оно они мы вы я это этот эта эти в во на но и а с со к по из за от до у о об при для
    как когда если после потом так там здесь его её их кто что где почему все
    ο η το οι τα ένας μια αυτός αυτή αυτό στο στη στην στον με για από και αλλά όταν αν ποιος
    """
)
